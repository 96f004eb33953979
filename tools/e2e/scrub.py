#!/usr/bin/env python3
"""scrub.py make DIR MIB: files of 64 MiB below DIR whose blocks say what they are, MIB in all, synced.
scrub.py harm SEED COUNT OSD_FOLDER...: finds every block of them in the data files of the OSDs and damages COUNT of them, each at one of its holders: flipped bits, zeroes, another
block's bytes, half of a block. Prints how many of each, as JSON.
scrub.py check DIR MIB: reads all of it past the kernel's cache; ends with 1 at a wrong byte."""
import glob
import hashlib
import json
import mmap
import os
import random
import sys

SIZE = 4096
BLOCKS = (64 << 20) // SIZE
MARK = b"scrubbed block "


def block(file, number):
    head = MARK + b"%d/%d\n" % (file, number)
    return head + (hashlib.sha256(head).digest() * (SIZE // 32 + 1))[:SIZE - len(head)]


def files(folder, mib):
    return [(n, os.path.join(folder, f"f{n}")) for n in range((mib + 63) // 64)]


def make(folder, mib):
    os.makedirs(folder, exist_ok=True)
    for n, path in files(folder, mib):
        with open(path, "wb") as file:
            for at in range(0, BLOCKS, 256):
                file.write(b"".join(block(n, number) for number in range(at, at + 256)))
            file.flush()
            os.fsync(file.fileno())


def check(folder, mib):
    wrong, chunk = 0, mmap.mmap(-1, 1 << 20)
    for n, path in files(folder, mib):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
        for at in range(0, BLOCKS * SIZE, 1 << 20):
            if os.preadv(fd, [chunk], at) != 1 << 20 or chunk[:] != b"".join(block(n, at // SIZE + i) for i in range(256)):
                wrong += 1
        os.close(fd)
    print(f"{wrong} wrong pieces of 1 MiB")
    return wrong


def harm(seed, count, folders):
    dice, where = random.Random(seed), {}
    for folder in folders:
        for path in sorted(glob.glob(os.path.join(folder, "**", "shard-*.data-*"), recursive=True)):
            with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                for at in range(0, len(content) - SIZE + 1, SIZE):
                    if content[at:at + len(MARK)] == MARK:
                        name = content[at + len(MARK):at + 64].split(b"\n")[0]
                        where.setdefault(name, []).append((path, at))
    print(f"{len(where)} blocks found, {sum(map(len, where.values())) / max(1, len(where)):.2f} copies of each", file=sys.stderr)
    done = dict.fromkeys(("flip", "zero", "other", "torn"), 0)
    names = sorted(where)
    # What was written over or removed may still lie there: only blocks with as many places as they have copies.
    copies = sorted(map(len, where.values()))[len(where) // 2]
    for name in dice.sample([name for name in names if len(where[name]) == copies], count):
        path, at = dice.choice(where[name])
        with open(path, "r+b") as file:
            file.seek(at)
            old = bytearray(file.read(SIZE))
            kind = dice.choice(sorted(done))
            if kind == "flip":
                old[dice.randrange(SIZE)] ^= 1 << dice.randrange(8)
            elif kind == "zero":
                old = bytearray(SIZE)
            elif kind == "other":
                old = bytearray(block(1 << 20, dice.randrange(1 << 30)))
            else:
                old[SIZE // 2:] = bytes(SIZE // 2)
            file.seek(at)
            file.write(old)
            file.flush()
            os.fsync(file.fileno())
        done[kind] += 1
    print(json.dumps(done))


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "make":
        make(rest[0], int(rest[1]))
    elif what == "harm":
        harm(int(rest[0]), int(rest[1]), rest[2:])
    else:
        sys.exit(1 if check(rest[0], int(rest[1])) else 0)
