#!/usr/bin/env python3
"""stall-write.py FILE SECONDS: overwrites and reads back 4 KiB blocks without a pause; prints the longest time of one
operation in milliseconds and their number. Ends with 1 when a block reads back as something else."""
import os
import random
import sys
import time

path, seconds = sys.argv[1], float(sys.argv[2])
blocks = 256
fd = os.open(path, os.O_RDWR | os.O_CREAT)
end, number, longest = time.monotonic() + seconds, 0, 0.0
dice = random.Random(7)
while time.monotonic() < end:
    at, body = dice.randrange(blocks) * 4096, number.to_bytes(8, "little") * 512
    start = time.monotonic()
    os.pwrite(fd, body, at)
    back = os.pread(fd, 4096, at)
    longest = max(longest, time.monotonic() - start)
    if back != body:
        print(f"block {at // 4096} reads back wrong after write {number}")
        sys.exit(1)
    number += 1
print(f"{longest * 1000:.0f} {number}")
