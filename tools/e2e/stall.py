#!/usr/bin/env python3
"""stall.py DIR SECONDS LOG: creates, writes, renames and reads small files without a pause; LOG gets the name of each file
that was acknowledged. Prints the longest time that one operation took, milliseconds."""
import os
import sys
import time

folder, seconds, log = sys.argv[1], float(sys.argv[2]), open(sys.argv[3], "w")
os.makedirs(folder, exist_ok=True)
end, number, longest = time.monotonic() + seconds, 0, 0.0


def timed(action):
    global longest
    start = time.monotonic()
    result = action()
    longest = max(longest, time.monotonic() - start)
    return result


def write(path):
    with open(path, "w") as file:
        file.write(path)


while time.monotonic() < end:
    path = os.path.join(folder, f"n{number}")
    timed(lambda: write(path + ".tmp"))
    timed(lambda: os.rename(path + ".tmp", path))
    log.write(path + "\n")
    log.flush()
    timed(lambda: os.stat(path))
    number += 1
print(f"{longest * 1000:.0f} {number}")
