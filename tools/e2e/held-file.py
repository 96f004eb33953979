#!/usr/bin/env python3
"""Opens a file, makes READY, waits for GO, takes the file's name away, and uses what it has open.  held-file.py PATH READY GO"""
import os, sys, time

path, ready, go = sys.argv[1:]
with open(path, "w") as file:
    file.write("x" * 100)
time.sleep(1.5)
os.stat(path)
handle = os.open(path, os.O_RDWR)
open(ready, "w").close()
until = time.time() + 60
while not os.path.exists(go) and time.time() < until:
    time.sleep(0.05)
os.unlink(path)
info = os.fstat(handle)
os.pwrite(handle, b"kept", 1)
found = info.st_nlink, info.st_size, os.pread(handle, 6, 0)
os.close(handle)
sys.exit(0 if found == (0, 100, b"xkeptx") else f"found {found}")
