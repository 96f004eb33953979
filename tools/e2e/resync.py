#!/usr/bin/env python3
"""resync.py make DIR SMALL BIG: SMALL files of one block and BIG files of 1 MiB below DIR.
resync.py change DIR SMALL BIG GENERATION: writes every small file anew, and one block of each big one; prints the bytes changed.
resync.py check DIR SMALL BIG GENERATION: reads everything past the kernel's cache; ends with 1 when something is wrong.
GENERATION 0 is what `make` wrote; generation n of a big file has the blocks of all before it."""
import mmap
import os
import random
import sys
import threading

SIZE = 4096
BLOCKS = 256
THREADS = 8


def block(name, number, generation):
    head = f"{name} block {number} generation {generation}\n".encode()
    return head + random.Random(head).randbytes(SIZE - len(head))


def touched(number, generation):
    """The block of a big file that a generation changes."""
    return (number * 37 + generation * 101) % BLOCKS


def newest(number, at, generation):
    return max([g for g in range(1, generation + 1) if touched(number, g) == at], default=0)


def everywhere(work, items):
    """Work on all items, some at a time; what fails ends it all."""
    failed = []

    def run(mine):
        try:
            for item in mine:
                work(item)
        except Exception as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=run, args=(items[n::THREADS],)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def small(folder, n):
    return os.path.join(folder, f"s{n // 500}", f"small-{n}")


def big(folder, n):
    return os.path.join(folder, f"big-{n}")


def write(path, at, data):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        assert os.pwrite(fd, data, at) == len(data)
    finally:
        os.close(fd)


def make(folder, smalls, bigs):
    for n in range(0, smalls, 500):
        os.makedirs(os.path.join(folder, f"s{n // 500}"), exist_ok=True)
    everywhere(lambda n: write(small(folder, n), 0, block(f"small-{n}", 0, 0)), list(range(smalls)))
    whole = lambda n: b"".join(block(f"big-{n}", at, 0) for at in range(BLOCKS))
    everywhere(lambda n: write(big(folder, n), 0, whole(n)), list(range(bigs)))


def change(folder, smalls, bigs, generation):
    everywhere(lambda n: write(small(folder, n), 0, block(f"small-{n}", 0, generation)), list(range(smalls)))

    def one(n):
        at = touched(n, generation)
        write(big(folder, n), at * SIZE, block(f"big-{n}", at, generation))

    everywhere(one, list(range(bigs)))
    print((smalls + bigs) * SIZE)


def read(path, length):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        into = mmap.mmap(-1, length)
        got = os.preadv(fd, [into], 0)
        return into[:got]
    finally:
        os.close(fd)


def check(folder, smalls, bigs, generation):
    wrong = []

    def one_small(n):
        if read(small(folder, n), SIZE) != block(f"small-{n}", 0, generation):
            wrong.append(f"small-{n}")

    def one_big(n):
        got = read(big(folder, n), BLOCKS * SIZE)
        for at in range(BLOCKS):
            if got[at * SIZE:(at + 1) * SIZE] != block(f"big-{n}", at, newest(n, at, generation)):
                wrong.append(f"big-{n} block {at}")

    everywhere(one_small, list(range(smalls)))
    everywhere(one_big, list(range(bigs)))
    if wrong:
        print(f"{len(wrong)} wrong: {' '.join(wrong[:5])}")
        sys.exit(1)


def main():
    what, folder, smalls, bigs = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    rest = [int(generation) for generation in sys.argv[5:]]
    {"make": make, "change": change, "check": check}[what](folder, smalls, bigs, *rest)


main()
