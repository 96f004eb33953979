#!/usr/bin/env python3
"""rereplication.py make DIR FILES KIB: FILES files of KIB KiB below DIR whose blocks say what they are, synced.
rereplication.py load DIR FILES KIB OUT: reads of 4 KiB past the kernel's cache and overwrites of 4 KiB that are synced, at a steady rate, until
OUT.stop is there. Each line of OUT: when it was due (Unix milliseconds), its kind, how long it took from then on (us). OUT.written says which blocks
were overwritten how often. Every read is compared with what was written last; ends with 1 when one was wrong or failed.
rereplication.py sum OUT FROM TO: of what was due between two times, for each kind: how many, median, p99 and worst in microseconds.
rereplication.py check DIR FILES KIB WRITTEN: reads all of it past the kernel's cache; ends with 1 at a wrong byte."""
import hashlib
import json
import mmap
import os
import random
import sys
import threading
import time

SIZE = 4096
# Threads of each kind, and how often each of them does something, per second.
RATES = {"read": (4, 25.0), "write": (2, 10.0)}


def block(file, number, generation):
    head = b"file %d block %d generation %d\n" % (file, number, generation)
    return head + (hashlib.sha256(head).digest() * (SIZE // 32 + 1))[:SIZE - len(head)]


def path(folder, n):
    return os.path.join(folder, f"f{n}")


def make(folder, files, kib):
    os.makedirs(folder, exist_ok=True)
    for n in range(files):
        with open(path(folder, n), "wb") as file:
            for at in range(0, kib // 4, 256):
                file.write(b"".join(block(n, number, 0) for number in range(at, min(at + 256, kib // 4))))
            file.flush()
            os.fsync(file.fileno())


class Load:
    """What is known of the blocks, and what came of each operation."""

    def __init__(self, folder, files, kib):
        self.fds = [os.open(path(folder, n), os.O_RDWR | os.O_DIRECT) for n in range(files)]
        self.files, self.blocks = files, kib // 4
        self.locks = [threading.Lock() for _ in range(files)]
        self.generations, self.lines, self.wrong = {}, [], []

    def read(self, file, number, into):
        got = os.preadv(self.fds[file], [into], number * SIZE)
        if got != SIZE or into[:] != block(file, number, self.generations.get((file, number), 0)):
            self.wrong.append(f"read of file {file} block {number}: {into[:40]!r}")

    def write(self, file, number, into):
        generation = self.generations.get((file, number), 0) + 1
        into[:] = block(file, number, generation)
        os.pwritev(self.fds[file], [into], number * SIZE)
        os.fdatasync(self.fds[file])
        self.generations[file, number] = generation

    def run(self, kind, seed, rate, stop):
        dice, into = random.Random(seed), mmap.mmap(-1, SIZE)
        due = time.time() + dice.random() / rate
        while not os.path.exists(stop):
            time.sleep(max(0, due - time.time()))
            file, number = dice.randrange(self.files), dice.randrange(self.blocks)
            # Files are many: that two threads want the same one, and the second waits here, is rare.
            with self.locks[file]:
                try:
                    (self.read if kind == "read" else self.write)(file, number, into)
                except OSError as error:
                    self.wrong.append(f"{kind} of file {file} block {number}: {error}")
            # From when it was due: what waits behind a slow one waits as well.
            self.lines.append(f"{int(due * 1000)} {kind} {int((time.time() - due) * 1e6)}\n")
            due += 1 / rate


def load(folder, files, kib, out):
    work = Load(folder, files, kib)
    threads = [threading.Thread(target=work.run, args=(kind, f"{kind} {n}", rate, out + ".stop"))
               for kind, (count, rate) in RATES.items() for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with open(out, "w") as file:
        file.writelines(work.lines)
    with open(out + ".written", "w") as file:
        json.dump([[file, number, generation] for (file, number), generation in work.generations.items()], file)
    print(f"{len(work.lines)} operations, {len(work.wrong)} wrong {work.wrong[:3]}")
    return len(work.wrong)


def add_up(out, begin, end):
    took = {kind: [] for kind in RATES}
    with open(out) as file:
        for due, kind, us in map(str.split, file):
            if begin <= int(due) < end:
                took[kind].append(int(us))
    for kind, times in took.items():
        times.sort()
        at = lambda part: times[min(len(times) - 1, int(len(times) * part))] if times else 0
        print(kind, len(times), at(0.5), at(0.99), at(1.0))


def check(folder, files, kib, written):
    with open(written) as file:
        generations = {(file, number): generation for file, number, generation in json.load(file)}
    wrong, chunk = [], mmap.mmap(-1, 256 * SIZE)
    for n in range(files):
        fd = os.open(path(folder, n), os.O_RDONLY | os.O_DIRECT)
        for at in range(0, kib // 4, 256):
            count = min(256, kib // 4 - at)
            want = b"".join(block(n, number, generations.get((n, number), 0)) for number in range(at, at + count))
            if os.preadv(fd, [memoryview(chunk)[:count * SIZE]], at * SIZE) != len(want) or chunk[:len(want)] != want:
                wrong.append(f"f{n} from block {at} on")
        if os.fstat(fd).st_size != kib << 10:
            wrong.append(f"f{n} has {os.fstat(fd).st_size} bytes")
        os.close(fd)
    print(f"{len(wrong)} wrong pieces of 1 MiB {wrong[:5]}")
    return len(wrong)


def main():
    what, *rest = sys.argv[1:]
    if what == "make":
        make(rest[0], int(rest[1]), int(rest[2]))
        return 0
    if what == "load":
        return load(rest[0], int(rest[1]), int(rest[2]), rest[3])
    if what == "sum":
        add_up(rest[0], int(rest[1]), int(rest[2]))
        return 0
    return check(rest[0], int(rest[1]), int(rest[2]), rest[3])


sys.exit(1 if main() else 0)
