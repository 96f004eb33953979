#!/usr/bin/env python3
"""make-tree.py DIR COUNT: a tree of COUNT files with the shapes that break file systems: deep and wide folders,
empty, odd and long names, sizes around blocks and stripes, links of both kinds, sparse files, modes and old times."""
import os
import random
import sys

root, count = sys.argv[1], int(sys.argv[2])
dice = random.Random(20261121)
noise = dice.randbytes(4 << 20)
sizes = [0, 1, 100, 511, 512, 4095, 4096, 4097, 9000, 30000]
rare = [65536, 131073, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20]
folders = [root]
os.makedirs(root)
for number in range(max(10, count // 40)):
    parent = dice.choice(folders[-60:])
    if parent.count("/") - root.count("/") > 12:
        parent = root
    folders.append(os.path.join(parent, f"d{number}"))
    os.mkdir(folders[-1])
wide = os.path.join(root, "wide")
os.mkdir(wide)
names = ["sp ace", "ünïcode-ß", "new\nline", "tab\there", "quote'\"", "-dash", "x" * 255, "trailing. "]
files = []
for number in range(count):
    folder = wide if number % 4 == 0 else dice.choice(folders)
    name = f"{names[number % len(names)]}" if number < len(names) else f"f{number}"
    path = os.path.join(folder, name)
    if files and number % 50 == 7:
        os.symlink(os.path.relpath(dice.choice(files), folder), path)
        continue
    if files and number % 50 == 9:
        os.link(dice.choice(files), path)
        continue
    size = dice.choice(rare) if number % 400 == 3 else dice.choice(sizes)
    start = dice.randrange(len(noise) - size)
    with open(path, "wb") as file:
        if number % 1000 == 11:
            file.seek(8 << 20)
        file.write(noise[start:start + size])
    os.chmod(path, dice.choice([0o644, 0o600, 0o755, 0o444, 0o4755]))
    moment = dice.randrange(10**9, 17 * 10**8) + dice.random()
    os.utime(path, (moment, moment))
    files.append(path)
os.symlink("does not exist", os.path.join(root, "dangling"))
os.mkfifo(os.path.join(root, "fifo"))
