#!/usr/bin/env python3
"""damage.py make FILE BLOCKS GENERATION: a file of blocks that say what they are.
damage.py check FILE BLOCKS GENERATION: reads it past the kernel's cache and counts wrong bytes; ends with 1 when there are any.
damage.py harm OSD_FOLDER FILE KIND BLOCK GENERATION: damages that block where the OSD keeps it. KIND: flip, zero, stale, cut.
Prints what it did; ends with 1 when the OSD does not hold the block in its data files."""
import glob
import mmap
import os
import random
import sys

SIZE = 4096


def block(name, number, generation):
    head = f"{name} block {number} generation {generation}\n".encode()
    return head + random.Random(head).randbytes(SIZE - len(head))


def make(path, blocks, generation):
    with open(path, "r+b" if os.path.exists(path) else "wb") as file:
        file.write(b"".join(block(os.path.basename(path), n, generation) for n in range(blocks)))
        file.flush()
        os.fsync(file.fileno())


def check(path, blocks, generation):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    wrong = 0
    chunk = mmap.mmap(-1, 1 << 20)
    at = 0
    while at < blocks * SIZE:
        got = os.preadv(fd, [chunk], at)
        if got == 0:
            break
        for within in range(0, got, SIZE):
            want = block(os.path.basename(path), (at + within) // SIZE, generation)
            wrong += sum(a != b for a, b in zip(chunk[within:within + SIZE], want)) if chunk[within:within + SIZE] != want else 0
        at += got
    if at < blocks * SIZE:
        wrong += blocks * SIZE - at
    print(f"{wrong} wrong bytes in {path}")
    return wrong


def find(folder, needle):
    for path in sorted(glob.glob(os.path.join(folder, "**", "shard-*.data-*"), recursive=True)):
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            at = content.find(needle)
            while at >= 0:
                if at % SIZE == 0:
                    return path, at
                at = content.find(needle, at + 1)
    return None, None


def harm(folder, path, kind, number, generation):
    name = os.path.basename(path)
    where, at = find(folder, block(name, number, generation)[:64])
    if where is None:
        print(f"{folder} does not hold block {number} of {name} in its data files")
        return 1
    with open(where, "r+b") as file:
        if kind == "flip":
            file.seek(at + 1234)
            byte = file.read(1)[0]
            file.seek(at + 1234)
            file.write(bytes([byte ^ 0x10]))
        elif kind == "zero":
            file.seek(at)
            file.write(bytes(SIZE))
        elif kind == "stale":
            file.seek(at)
            file.write(block(name, number, generation - 1))
        elif kind == "cut":
            file.truncate(at)
        os.fsync(file.fileno())
    print(f"{kind}: block {number} of {name} at byte {at} of {where}")
    return 0


if sys.argv[1] == "make":
    make(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
elif sys.argv[1] == "check":
    sys.exit(check(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])) != 0)
else:
    sys.exit(harm(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]), int(sys.argv[6])))
