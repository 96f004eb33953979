#!/usr/bin/env python3
"""Changes names and data without a pause and remembers what was acknowledged.

load.py run DIR END LOG      until the file END is there; LOG.slow gets `end_ms duration_ms operation` of what took 50 ms or more.
                             Prints: longest operation (ms), operations, errors. Errors do not end it.
load.py data DIR END LOG     the same with the data of one file: random changes, and reads that are compared with what must be there.
load.py verify DIR LOG       everything acknowledged is there as it was left, and nothing that was removed.
load.py longest LOG FROM TO  the longest operation that ended or went on between two times (ms since 1970), and what it was.
"""
import os
import random
import sys
import time

BLOCK = b"0123456789abcdef" * 256
KEPT = 2000
SPAN = 8 << 20


class Load:
    def __init__(self, folder, log):
        self.folder, self.count, self.longest, self.errors = folder, 0, 0.0, 0
        self.log = open(log, "w")
        self.slow = open(log + ".slow", "w")

    def timed(self, name, action):
        """One operation. What failed may have been done or not: None."""
        start = time.monotonic()
        result, failed = None, None
        try:
            result = action()
        except OSError as error:
            failed = error
        took = time.monotonic() - start
        self.count += 1
        self.longest = max(self.longest, took)
        if took >= 0.05:
            print(f"{time.time() * 1000:.0f} {took * 1000:.0f} {name}", file=self.slow, flush=True)
        if failed:
            self.errors += 1
            print(f"{name}: {failed}", file=sys.stderr, flush=True)
            return None
        # An empty answer is one.
        return True if result is None else result

    def note(self, *words):
        print(*words, file=self.log, flush=True)

    def round(self, number, shared):
        path = os.path.join(self.folder, f"n{number}")

        def write():
            with open(path + ".tmp", "wb") as file:
                file.write(path.encode())

        def overwrite():
            os.pwrite(shared, BLOCK, (number % 64) * len(BLOCK))
            os.fsync(shared)

        if not self.timed("create", write):
            return
        self.note("?", f"n{number}")
        if self.timed("rename", lambda: os.rename(path + ".tmp", path)):
            self.note("+", f"n{number}")
        self.timed("stat", lambda: os.stat(path))
        self.timed("write", overwrite)
        self.timed("read", lambda: os.pread(shared, len(BLOCK), (number % 64) * len(BLOCK)))
        for old in (number - 1, number - KEPT):
            # Only odd numbers are kept, the newest of them.
            if number % 2 == 0 or old < 0:
                continue
            self.note("?", f"n{old}")
            if self.timed("unlink", lambda: os.unlink(os.path.join(self.folder, f"n{old}"))):
                self.note("-", f"n{old}")


def run(folder, end, log):
    os.makedirs(folder, exist_ok=True)
    load, number = Load(folder, log), 0
    shared = os.open(os.path.join(folder, "shared"), os.O_RDWR | os.O_CREAT)
    while not os.path.exists(end):
        load.round(number, shared)
        number += 1
    os.close(shared)
    print(f"{load.longest * 1000:.0f} {load.count} {load.errors}")
    return 0 if load.errors == 0 else 1


def data(folder, end, log):
    """What fsx does: random changes of one file, every read compared with what it must be."""
    os.makedirs(folder, exist_ok=True)
    load, dice, wrong = Load(folder, log), random.Random(7), 0
    model = bytearray()
    file = os.open(os.path.join(folder, "data"), os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    while not os.path.exists(end):
        at, size = dice.randrange(SPAN), dice.randrange(1, 65536)
        kind = dice.choice(["write", "write", "read", "read", "read", "truncate", "fsync"])
        if kind == "write":
            block = dice.randbytes(size)
            if load.timed(kind, lambda: os.pwrite(file, block, at)) is not None:
                model.extend(bytes(max(0, at + size - len(model))))
                model[at : at + size] = block
        elif kind == "truncate":
            if load.timed(kind, lambda: os.ftruncate(file, at)):
                model = model[:at] + bytes(max(0, at - len(model)))
        elif kind == "fsync":
            load.timed(kind, lambda: os.fsync(file))
        else:
            found = load.timed(kind, lambda: os.pread(file, size, at))
            if found is not None and found != bytes(model[at : at + size]):
                wrong += 1
                print(f"read of {size} at {at}: other bytes than were written", file=sys.stderr, flush=True)
    os.close(file)
    print(f"{load.longest * 1000:.0f} {load.count} {load.errors + wrong}")
    return 0 if load.errors + wrong == 0 else 1


def verify(folder, log):
    state = {}
    for line in open(log):
        sign, name = line.split()
        state[name] = sign
    names, lost = set(os.listdir(folder)), 0
    for name, sign in state.items():
        path = os.path.join(folder, name)
        if sign == "+":
            content = open(path, "rb").read() if name in names else None
            if content != path.encode():
                lost += 1
                print(f"lost: {name} is {content!r}")
                if content is not None:
                    # It is lost all the same; whether it comes back says where to look.
                    before = os.stat(path)
                    time.sleep(7)
                    print(f"  size {before.st_size}, inode {before.st_ino}, mtime {before.st_mtime:.3f}; "
                          f"7 s later {open(path, 'rb').read()!r}, size {os.stat(path).st_size}")
        elif sign == "-" and name in names:
            lost += 1
            print(f"back: {name} was removed")
    kept = sum(sign == "+" for sign in state.values())
    print(f"{kept} acknowledged files there, {len(state) - kept} removed ones gone, {lost} lost")
    return 0 if lost == 0 and kept > 0 else 1


def longest(log, begin, end):
    worst, what = 0, "-"
    for line in open(log + ".slow"):
        at, took, name = line.split()
        at, took = int(at), int(took)
        if at >= begin and at - took <= end and took > worst:
            worst, what = took, name
    print(worst, what)
    return 0


command, args = sys.argv[1], sys.argv[2:]
if command == "run":
    sys.exit(run(*args))
elif command == "data":
    sys.exit(data(*args))
elif command == "verify":
    sys.exit(verify(*args))
elif command == "longest":
    sys.exit(longest(args[0], int(args[1]), int(args[2])))
sys.exit(f"no command {command!r}\n{__doc__}")
