#!/usr/bin/env python3
"""Many entries in one directory: made, listed, asked for, listed by another mount, removed. Prints a rate for each; ends with 1 when something is
missing, is there twice, or does not stream.   big-directory.py DIR [OTHER-MOUNT'S DIR] [--entries N] [--workers N]"""
import argparse, ctypes, multiprocessing, os, random, sys, time

libc = ctypes.CDLL(None, use_errno=True)
PAGE = 1 << 15


def listed(path):
    """Raw getdents64, as `ls -f`: the names, the time to the first page and the longest time between two pages."""
    fd, buffer, names = os.open(path, os.O_RDONLY | os.O_DIRECTORY), ctypes.create_string_buffer(PAGE), []
    began = last = time.monotonic()
    first = longest = 0.0
    while True:
        count = libc.syscall(217, fd, buffer, PAGE)
        now = time.monotonic()
        if count < 0:
            raise OSError(ctypes.get_errno(), "getdents64")
        first, longest, last = first or now - began, max(longest, now - last), now
        if count == 0:
            break
        at = 0
        raw = buffer.raw
        while at < count:
            length = int.from_bytes(raw[at + 16 : at + 18], "little")
            names.append(raw[at + 19 : raw.index(b"\0", at + 19)].decode())
            at += length
    os.close(fd)
    return names, first, longest


def name(number):
    return f"entry-{number:07}"


def make(path, numbers):
    for number in numbers:
        os.close(os.open(os.path.join(path, name(number)), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))


def ask(path, numbers):
    for number in numbers:
        os.stat(os.path.join(path, name(number)))


def remove(path, numbers):
    for number in numbers:
        os.unlink(os.path.join(path, name(number)))


def spread(act, paths, numbers, workers):
    """`workers` processes, on the mounts in turn; true when all of them ended well."""
    share = [
        multiprocessing.Process(target=act, args=(paths[worker % len(paths)], numbers[worker::workers])) for worker in range(workers)
    ]
    for process in share:
        process.start()
    for process in share:
        process.join()
    return all(process.exitcode == 0 for process in share)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dirs", nargs="+")
    parser.add_argument("--entries", type=int, default=100000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args()
    paths = [os.path.join(d, "big") for d in args.dirs]
    os.mkdir(paths[0])
    failed = []

    def step(what, act, count=args.entries):
        began = time.monotonic()
        right = act()
        took = time.monotonic() - began
        print(f"{what}: {took:.2f} s, {count / took:.0f}/s", flush=True)
        if not right:
            failed.append(what)

    every = list(range(args.entries))
    want = {name(number) for number in every}

    def whole(path):
        names, first, longest = listed(path)
        names = [entry for entry in names if entry not in (".", "..")]
        print(f"   first page after {first * 1000:.1f} ms, longest wait for a page {longest * 1000:.1f} ms")
        if len(names) != len(want) or set(names) != want:
            print(f"   {len(names)} names, {len(set(names))} different, {len(want - set(names))} missing")
            return False
        # A stream: the first page does not wait for the rest.
        return first < 1

    step("create", lambda: spread(make, paths[:1], every, args.workers))
    for path in paths:
        step(f"list {path}", lambda: whole(path))
    sample = random.Random(1).sample(every, min(args.entries, 20000))
    for path in paths:
        step(f"stat in random order {path}", lambda: spread(ask, [path], sample, args.workers), len(sample))
    if not args.keep:
        step("remove", lambda: spread(remove, paths, every, args.workers))
        step("remove the directory", lambda: os.rmdir(paths[-1]) is None, 1)
    print(f"failed: {', '.join(failed)}" if failed else "all there")
    return bool(failed)


sys.exit(main())
