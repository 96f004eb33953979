#!/usr/bin/env python3
"""Writes a file without ever closing or syncing it, and tells of every acknowledged write on standard output.

  unsynced-write.py FILE SECONDS    pieces at the end and over what is there; ends when FILE cannot be written any more
  unsynced-write.py --check FILE LOG

Before each write a line `? offset length seed`, after it one with `!`; the content of a piece follows from its seed."""

import os
import random
import sys
import time


def content(seed, length):
    return random.Random(seed).randbytes(length)


def write(path, seconds):
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    dice, end, seed = random.Random(1), 0, 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        length = dice.choice([100, 4096, 5000, 65536, 300000])
        offset = end if seed % 3 or not end else dice.randrange(end)
        print("?", offset, length, seed, flush=True)
        try:
            written = os.pwrite(file, content(seed, length), offset)
        except OSError as error:
            print(f"# {error}", file=sys.stderr)
            break
        assert written == length, f"{written} of {length} bytes"
        print("!", offset, length, seed, flush=True)
        end, seed = max(end, offset + length), seed + 1
    # Killed together with what it wrote to: nothing is flushed on its way out.
    os._exit(0)


def check(path, log):
    model = bytearray()
    lines = [line.split() for line in open(log, encoding="ascii") if line.endswith("\n")]
    acknowledged = [tuple(map(int, line[1:])) for line in lines if line[0] == "!"]
    # The last write may have been done without anybody having heard of it.
    maybe = [tuple(map(int, line[1:])) for line in lines if line[0] == "?"][len(acknowledged):]
    for offset, length, seed in acknowledged:
        model.extend(bytes(max(0, offset + length - len(model))))
        model[offset:offset + length] = content(seed, length)
    found = open(path, "rb").read()
    if len(found) < len(model):
        sys.exit(f"{path} has {len(found)} bytes; {len(model)} were acknowledged in {len(acknowledged)} writes")
    for offset, length, _ in maybe:
        model[offset:offset + length] = found[offset:offset + length]
    for at in range(0, len(model), 4096):
        if found[at:min(at + 4096, len(model))] != model[at:at + 4096]:
            sys.exit(f"{path}: an acknowledged write is missing in the block at {at} of {len(model)} bytes")
    print(f"{len(acknowledged)} acknowledged writes, {len(model)} bytes: all there")


if __name__ == "__main__":
    if sys.argv[1] == "--check":
        check(sys.argv[2], sys.argv[3])
    else:
        write(sys.argv[1], float(sys.argv[2]))
