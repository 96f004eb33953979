#!/usr/bin/env python3
"""Files that are written and closed one after another, and what a crash or a later look must find of them.

closed-files.py DIR LOG            writes until killed; LOG gets a line for each close that was answered
closed-files.py --check DIR LOG    each of them is there and whole, with the rights and the time that it was given

Every other file is given rights, a time and its owner before it is closed, as tar(1) and cp(1) do.
closed-files.py --steady DIR N     N files: what stat says right after close(2) is what it says a moment later
"""
import os
import sys
import time


def content(number):
    return (b"%08d" % number) * (1 + number * 997 % 9000)


def write(path, number):
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    os.write(fd, content(number))
    if number % 2:
        os.utime(fd, ns=given_times(number))
        os.fchown(fd, os.getuid(), os.getgid())
        os.fchmod(fd, given_mode(number))
    os.close(fd)


def given_times(number):
    return 1_000_000_000_000_000_007 + number, 1_100_000_000_000_000_003 + number


def given_mode(number):
    return 0o600 | number % 64


def is_whole(path, number):
    stat = os.stat(path)
    if number % 2 and (stat.st_mode & 0o7777, stat.st_mtime_ns) != (given_mode(number), given_times(number)[1]):
        return False
    return open(path, "rb").read() == content(number)


def seen(path):
    stat = os.stat(path)
    return stat.st_size, stat.st_mode, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_blocks


def main():
    if sys.argv[1] == "--check":
        directory, log = sys.argv[2:4]
        lines = open(log).read().splitlines()
        bad = [line for line in lines if not is_whole(f"{directory}/{line}", int(line))]
        print(f"{len(lines)} files closed, {len(bad)} of them not whole: {bad[:5]}")
        sys.exit(bool(bad) or len(lines) < 100)
    if sys.argv[1] == "--steady":
        directory, count = sys.argv[2], int(sys.argv[3])
        os.makedirs(directory)
        moved = []
        for number in range(count):
            path = f"{directory}/{number}"
            write(path, number)
            first = seen(path)
            # Reported meanwhile; a rename has the kernel ask anew.
            time.sleep(0.02)
            second = seen(path)
            os.listxattr(path)
            fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
            whole = os.read(fd, 1 << 20) == content(number)
            os.close(fd)
            if first != second or seen(path) != first or not whole:
                moved.append((number, first, second, seen(path), whole))
        print(f"{count} files, {len(moved)} changed after their close: {moved[:3]}")
        sys.exit(bool(moved))
    directory, log = sys.argv[1:3]
    os.makedirs(directory)
    with open(log, "w", buffering=1) as out:
        number = 0
        while True:
            write(f"{directory}/{number}", number)
            out.write(f"{number}\n")
            number += 1


main()
