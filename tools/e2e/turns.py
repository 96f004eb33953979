#!/usr/bin/env python3
"""Two processes on two mounts take turns, as ctdb's ping_pong -rw and -rwm: each holds one lock of a ring, adds to the counter under the next and
lets go. With pread and pwrite first, then through mappings. A counter that does not hold what the holder of the lock left is a failure.
turns.py DIR DIR [--seconds T]"""
import argparse, fcntl, mmap, multiprocessing, os, sys, time

SLOTS = 3


def work(path, kind, stop, told):
    fd = os.open(path, os.O_RDWR)
    window = mmap.mmap(fd, SLOTS * 8) if kind == "mapped" else None
    mine, rounds, failed, slot = [0] * SLOTS, 0, None, 0
    while time.monotonic() < stop and not failed:
        if kind == "flock":
            fcntl.flock(fd, fcntl.LOCK_EX)
        else:
            fcntl.lockf(fd, fcntl.LOCK_EX, 8, slot * 8)
        # The sum of what all have added is what stands there.
        raw = window[slot * 8 : slot * 8 + 8] if window else os.pread(fd, 8, slot * 8)
        value = int.from_bytes(raw, "little") + 1
        if len(raw) != 8:
            failed = f"{len(raw)} bytes at slot {slot}"
        elif value <= mine[slot]:
            failed = f"slot {slot} went back from {mine[slot]} to {value - 1}"
        mine[slot] = value
        raw = value.to_bytes(8, "little")
        if window:
            window[slot * 8 : slot * 8 + 8] = raw
            window.flush()
        else:
            os.pwrite(fd, raw, slot * 8)
        if kind == "flock":
            fcntl.flock(fd, fcntl.LOCK_UN)
        else:
            fcntl.lockf(fd, fcntl.LOCK_UN, 8, slot * 8)
        rounds += 1
        slot = (slot + 1) % SLOTS
    told.put((rounds, failed))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dirs", nargs="+")
    parser.add_argument("--seconds", type=float, default=5)
    args = parser.parse_args()
    right = True
    for kind in ("fcntl", "flock", "mapped"):
        paths = [os.path.join(d, f"turns.{kind}") for d in args.dirs]
        with open(paths[0], "wb") as file:
            file.write(bytes(SLOTS * 8))
        told, stop = multiprocessing.Queue(), time.monotonic() + args.seconds
        workers = [multiprocessing.Process(target=work, args=(path, kind, stop, told)) for path in paths * 2]
        for worker in workers:
            worker.start()
        results = [told.get(timeout=args.seconds + 40) for _ in workers]
        for worker in workers:
            worker.join()
        rounds = sum(count for count, _ in results)
        with open(paths[-1], "rb") as file:
            raw = file.read()
        counted = sum(int.from_bytes(raw[slot * 8 : slot * 8 + 8], "little") for slot in range(SLOTS))
        failures = [failed for _, failed in results if failed]
        if counted != rounds:
            failures.append(f"{rounds} additions, {counted} counted")
        each = [count for count, _ in results]
        print(f"{kind}: {rounds} turns, {rounds / args.seconds:.0f}/s, by process {each}" + "".join(f"; {f}" for f in failures), flush=True)
        right = right and not failures and min(each) > 0
        os.unlink(paths[0])
    return 0 if right else 1


sys.exit(main())
