#!/usr/bin/env python3
"""snapshots.py manifest DIR: everything that a program can see below DIR, one line per name: type, mode, owner, links, size,
time, hash of the content, target, extended attributes and access lists. Inodes are told apart by the first name that has them.
   snapshots.py make DIR: a tree to take snapshots of.   snapshots.py change DIR: changes everything in it."""
import hashlib
import os
import random
import shutil
import stat
import sys

MIB = 1 << 20


def manifest(root):
    first = {}
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files + folders) + [""]:
            path = os.path.join(folder, name) if name else folder
            if not name and folder != root:
                continue
            what = os.lstat(path)
            shown = os.path.relpath(path, root)
            same = first.setdefault(what.st_ino, shown)
            digest = target = "-"
            if stat.S_ISREG(what.st_mode):
                with open(path, "rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            if stat.S_ISLNK(what.st_mode):
                target = os.readlink(path)
            names = [] if stat.S_ISLNK(what.st_mode) else sorted(os.listxattr(path))
            attributes = [(name, os.getxattr(path, name).hex()) for name in names]
            size = 0 if stat.S_ISDIR(what.st_mode) else what.st_size
            print(repr(shown), oct(what.st_mode), what.st_uid, what.st_gid, what.st_nlink, what.st_rdev, size, what.st_mtime_ns,
                  digest, target, attributes, "=" if same == shown else f"={same}")


def put(path, at, data):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


def make(root):
    dice = random.Random(1)
    os.makedirs(f"{root}/d/deep/er")
    os.makedirs(f"{root}/moved")
    for number in range(60):
        with open(f"{root}/d/deep/f{number}", "wb") as file:
            file.write(dice.randbytes(dice.choice([0, 1, 100, 4095, 4096, 5000, 70000])))
    with open(f"{root}/big", "wb") as file:
        file.write(dice.randbytes(20 * MIB))
    with open(f"{root}/sparse", "wb") as file:
        file.seek(3 * MIB + 17)
        file.write(b"island")
        file.truncate(9 * MIB + 5)
    for name, text in [("appended", b"first\n"), ("deleted", b"gone soon"), ("becomes-directory", b"a file"), ("moved/m", b"moving"),
                       ("two", b"two names"), ("mode", b"mode")]:
        with open(f"{root}/{name}", "wb") as file:
            file.write(text)
    os.link(f"{root}/two", f"{root}/d/deep/er/two-again")
    os.symlink("d/deep/f1", f"{root}/link")
    os.symlink("nowhere", f"{root}/dangling")
    os.mkfifo(f"{root}/fifo", 0o640)
    os.setxattr(f"{root}/two", "user.colour", b"red")
    os.setxattr(f"{root}/d", "user.of-directory", b"1")
    os.mkdir(f"{root}/becomes-file")
    with open(f"{root}/becomes-file/in", "wb") as file:
        file.write(b"below")
    os.chmod(f"{root}/d/deep", 0o2750)
    os.utime(f"{root}/d/deep/er", ns=(10**18 + 5, 10**18 + 7))
    if os.geteuid() == 0:
        os.chown(f"{root}/d/deep/f1", 4001, 4002)
        os.chmod(f"{root}/d/deep/f1", 0o4711)


def change(root):
    dice = random.Random(2)
    for at, length in [(1, 3), (4096, 4096), (MIB - 5, 10), (7 * MIB + 1234, 2 * MIB + 77), (20 * MIB - 3, 3)]:
        put(f"{root}/big", at, dice.randbytes(length))
    os.truncate(f"{root}/big", 13 * MIB + 1)
    os.truncate(f"{root}/big", 22 * MIB)
    put(f"{root}/big", 21 * MIB + 9, b"behind the end that it had")
    put(f"{root}/sparse", 5 * MIB + 3, b"another island")
    with open(f"{root}/appended", "ab") as file:
        file.write(b"second\n")
    os.unlink(f"{root}/deleted")
    os.rename(f"{root}/moved/m", f"{root}/d/m")
    os.rename(f"{root}/moved", f"{root}/d/moved-directory")
    os.unlink(f"{root}/becomes-directory")
    os.mkdir(f"{root}/becomes-directory")
    with open(f"{root}/becomes-directory/x", "wb") as file:
        file.write(b"new")
    shutil.rmtree(f"{root}/becomes-file")
    with open(f"{root}/becomes-file", "wb") as file:
        file.write(b"a file now")
    os.chmod(f"{root}/mode", 0o600)
    os.setxattr(f"{root}/two", "user.colour", b"blue")
    os.setxattr(f"{root}/two", "user.more", b"1")
    os.removexattr(f"{root}/d", "user.of-directory")
    os.unlink(f"{root}/d/deep/er/two-again")
    os.unlink(f"{root}/link")
    os.symlink("d/deep/f2", f"{root}/link")
    os.unlink(f"{root}/fifo")
    os.chmod(f"{root}/d/deep", 0o755)
    for number in range(0, 60, 3):
        os.truncate(f"{root}/d/deep/f{number}", 50)
    for number in range(1, 60, 3):
        os.rename(f"{root}/d/deep/f{number}", f"{root}/d/deep/er/g{number}")
    for number in range(2, 60, 3):
        with open(f"{root}/d/deep/f{number}", "wb") as file:
            file.write(dice.randbytes(1000))
    # Names that change places.
    os.rename(f"{root}/mode", f"{root}/away")
    os.rename(f"{root}/appended", f"{root}/mode")
    os.rename(f"{root}/away", f"{root}/appended")


{"manifest": manifest, "make": make, "change": change}[sys.argv[1]](sys.argv[2])
