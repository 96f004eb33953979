#!/usr/bin/env python3
"""Programs on one or more mounts take and free record locks at random; no two of them may have locks that conflict.

  locks.py DIR [DIR ...] [--seconds S] [--programs N] [--files F] [--slots K] [--seed N] [--pause MS]

Each DIR is the same directory through a mount of its own. Each program has a cell for each slot (a byte of a file) in memory that all
share: it says what it holds once it has the lock, and takes that back before it frees it. Who has a lock looks at the cells of all others.
Prints what was done; ends with 1 on a conflict, or when a program failed or hung.
"""
import argparse, errno, fcntl, mmap, os, random, signal, struct, sys, time

parser = argparse.ArgumentParser()
parser.add_argument("dirs", nargs="+")
parser.add_argument("--seconds", type=float, default=5)
parser.add_argument("--programs", type=int, default=3, help="on each mount")
parser.add_argument("--files", type=int, default=2)
parser.add_argument("--slots", type=int, default=4)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--pause", type=float, default=5, help="the longest time for which a lock is held, ms")
args = parser.parse_args()

programs = args.programs * len(args.dirs)
slots = args.files * args.slots
cells = mmap.mmap(-1, max(1, programs * slots))
counts = mmap.mmap(-1, programs * 16)
FREE, SHARED, ALONE = 0, 1, 2


def conflict(me, slot, kind):
    for other in range(programs):
        cell = cells[other * slots + slot]
        if other != me and (cell == ALONE or (cell == SHARED and kind == ALONE)):
            return other, cell
    return None


def run(me, top):
    dice = random.Random(args.seed * 1000 + me)
    files = [os.open(os.path.join(top, f"locked-{n}"), os.O_RDWR) for n in range(args.files)]
    end = time.monotonic() + args.seconds
    held = {}
    taken = refused = 0
    while time.monotonic() < end:
        file, at = dice.randrange(args.files), dice.randrange(args.slots)
        slot = file * args.slots + at
        if slot in held:
            cells[me * slots + slot] = FREE
            fcntl.lockf(files[file], fcntl.LOCK_UN, 1, at)
            del held[slot]
            continue
        kind = dice.choice([SHARED, ALONE, ALONE])
        # Who waits holds nothing else: it cannot be part of a circle.
        wait = not held and dice.random() < 0.3
        how = (fcntl.LOCK_SH if kind == SHARED else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
        try:
            fcntl.lockf(files[file], how, 1, at)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            refused += 1
            continue
        cells[me * slots + slot] = kind
        taken += 1
        held[slot] = kind
        seen = conflict(me, slot, kind)
        if seen:
            print(f"program {me} has slot {slot} as {kind}, program {seen[0]} as {seen[1]} too", flush=True)
            os._exit(3)
        time.sleep(dice.random() * args.pause / 1000)
        if conflict(me, slot, kind):
            print(f"program {me} has slot {slot} as {kind}, and somebody else got it meanwhile", flush=True)
            os._exit(3)
    for slot in list(held):
        cells[me * slots + slot] = FREE
        fcntl.lockf(files[slot // args.slots], fcntl.LOCK_UN, 1, slot % args.slots)
    counts[me * 16:me * 16 + 16] = struct.pack("=QQ", taken, refused)
    os._exit(0)


for n in range(args.files):
    with open(os.path.join(args.dirs[0], f"locked-{n}"), "ab"):
        pass
children = []
for me in range(programs):
    pid = os.fork()
    if pid == 0:
        try:
            run(me, args.dirs[me % len(args.dirs)])
        except BaseException as error:
            print(f"program {me}: {error!r}", flush=True)
            os._exit(2)
    children.append(pid)
deadline = time.monotonic() + args.seconds + 40
failed = False
for me, pid in enumerate(children):
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            failed |= status != 0
            break
        if time.monotonic() > deadline:
            print(f"program {me} hangs", flush=True)
            os.kill(pid, signal.SIGKILL)
            failed = True
            break
        time.sleep(0.05)
sums = [struct.unpack("=QQ", counts[me * 16:me * 16 + 16]) for me in range(programs)]
print(f"{sum(one[0] for one in sums)} locks taken, {sum(one[1] for one in sums)} refused, by {programs} programs on {len(args.dirs)} mounts")
sys.exit(1 if failed else 0)
