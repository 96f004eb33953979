#!/usr/bin/env python3
"""slow.py DIR FILES SECONDS NAME: writes and reads blocks of FILES files below DIR and makes new ones for SECONDS, one thread per kind;
every read is compared with what was written last. Prints NAME and for each kind: how many, median and p99 in microseconds, worst."""
import mmap
import os
import random
import sys
import threading
import time

SIZE = 4096
BLOCKS = 16


def content(number, block, generation):
    head = f"file {number} block {block} generation {generation}\n".encode()
    return head + random.Random(head).randbytes(SIZE - len(head))


def opened(folder, number):
    path = os.path.join(folder, f"f-{number}")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o644)
    if os.fstat(fd).st_size < BLOCKS * SIZE:
        into = mmap.mmap(-1, BLOCKS * SIZE)
        into.write(b"".join(content(number, block, 0) for block in range(BLOCKS)))
        os.pwrite(fd, into, 0)
    return fd


def main():
    folder, files, seconds, name = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    os.makedirs(folder, exist_ok=True)
    fds = [opened(folder, number) for number in range(files)]
    # What a run before left is written anew: what is known is what was written here.
    generations = {}
    locks = [threading.Lock() for _ in range(files)]
    end = time.monotonic() + seconds
    times = {"read": [], "write": [], "create": []}
    wrong = []

    def timed(kind, call):
        begun = time.monotonic()
        result = call()
        times[kind].append(time.monotonic() - begun)
        return result

    def write(dice, into):
        number, block = dice.randrange(files), dice.randrange(BLOCKS)
        with locks[number]:
            generation = generations.get((number, block), 0) + 1
            into.seek(0)
            into.write(content(number, block, generation))
            timed("write", lambda: os.pwrite(fds[number], into, block * SIZE))
            generations[number, block] = generation

    def read(dice, into):
        number, block = dice.randrange(files), dice.randrange(BLOCKS)
        with locks[number]:
            timed("read", lambda: os.preadv(fds[number], [into], block * SIZE))
            generation = generations.get((number, block))
            if generation is not None and into[:] != content(number, block, generation):
                wrong.append((number, block, generation))

    made = [0]

    def create(dice, into):
        path = os.path.join(folder, f"new-{name}-{made[0]}")
        made[0] += 1
        data = into[:]

        def one():
            fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
            os.write(fd, data)
            os.close(fd)

        timed("create", one)
        time.sleep(0.02)

    def run(work, seed):
        dice, into = random.Random(seed), mmap.mmap(-1, SIZE)
        while time.monotonic() < end:
            work(dice, into)

    threads = [threading.Thread(target=run, args=(work, seed)) for seed, work in enumerate((write, read, create))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    out = [name]
    for kind, took in times.items():
        took.sort()
        at = lambda part: int(took[min(len(took) - 1, int(len(took) * part))] * 1e6)
        out += [kind, len(took), at(0.5), at(0.99), at(1.0)]
    print(*out, "wrong", len(wrong))
    sys.exit(1 if wrong else 0)


main()
