#!/usr/bin/env python3
"""reads.py DIR FILES SECONDS THREADS: makes FILES files below DIR if they are not there, then reads blocks of them for SECONDS past all
caches; every read is compared with what was written. Prints the longest read in milliseconds, how many, the p99 in microseconds, and how
many took more than 200 ms."""
import mmap
import os
import random
import sys
import threading
import time

SIZE = 4096
BLOCKS = 32


def content(number, block):
    head = f"file {number} block {block}\n".encode()
    return head + random.Random(head).randbytes(SIZE - len(head))


def main():
    folder, files, seconds, threads = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    os.makedirs(folder, exist_ok=True)
    for number in range(files):
        path = os.path.join(folder, f"f-{number}")
        if not os.path.exists(path):
            with open(path, "wb") as file:
                file.write(b"".join(content(number, block) for block in range(BLOCKS)))
                os.fsync(file.fileno())
    if seconds == 0:
        return
    fds = [os.open(os.path.join(folder, f"f-{number}"), os.O_RDONLY | os.O_DIRECT) for number in range(files)]
    times, wrong, end = [], [], time.monotonic() + seconds

    def run(seed):
        dice, into = random.Random(seed), mmap.mmap(-1, SIZE)
        while (begun := time.monotonic()) < end:
            number, block = dice.randrange(files), dice.randrange(BLOCKS)
            os.preadv(fds[number], [into], block * SIZE)
            times.append(time.monotonic() - begun)
            if into[:] != content(number, block):
                wrong.append((number, block))

    readers = [threading.Thread(target=run, args=(seed,)) for seed in range(threads)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    times.sort()
    long = sum(took > 0.2 for took in times)
    print(f"{times[-1] * 1000:.0f} {len(times)} {int(times[int(len(times) * 0.99)] * 1e6)} {long}")
    if wrong:
        print("wrong:", wrong[:5], file=sys.stderr)
        sys.exit(1)


main()
