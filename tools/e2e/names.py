#!/usr/bin/env python3
"""The same random changes of names on a mount and in a local directory: each call must end alike, and both trees are the same.

  names.py MOUNT_DIR LOCAL_DIR [--second DIR] [--seed N] [--seconds S]

MOUNT_DIR and LOCAL_DIR are made. --second: the same directory through another mount; it is compared too, now and then.
"""
import argparse, errno, os, random, stat, sys, time


def outcome(call):
    try:
        return call()
    except OSError as error:
        return errno.errorcode[error.errno]


def write(path, flags, text):
    handle = os.open(path, flags | os.O_WRONLY, 0o640)
    try:
        if text:
            os.write(handle, text)
    finally:
        os.close(handle)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def tree(top):
    """Every name with its type, links, rights, size and content."""
    found = {}
    for base, directories, files in os.walk(top):
        for name in directories + files:
            path = os.path.join(base, name)
            info = os.lstat(path)
            what = read(path) if stat.S_ISREG(info.st_mode) else len(os.listdir(path)) if stat.S_ISDIR(info.st_mode) else os.readlink(path)
            found[os.path.relpath(path, top)] = (info.st_mode, info.st_nlink, what)
    return found


def one(dice, depth=2):
    """A call, as a function of the directory in which it is made."""
    def path():
        parts = [f"d{dice.randrange(3)}" for _ in range(dice.randrange(depth + 1))]
        return os.path.join(*parts, f"{dice.choice('nd')}{dice.randrange(6)}")
    first, second, text = path(), path(), os.urandom(dice.choice([0, 0, 10, 10, 3000, 4096, 4097, 70000]))
    kind = dice.choices(
        ["create", "exclusive", "append", "unlink", "rename", "mkdir", "rmdir", "link", "stat", "read", "symlink", "chmod", "list", "fsync", "open", "utime", "poke", "truncate"],
        [14, 6, 4, 14, 18, 8, 5, 8, 6, 4, 2, 4, 3, 2, 4, 4, 4, 4])[0]
    mode, when = dice.choice([0o600, 0o644]), dice.randrange(10**18)
    at = dice.choice([0, 5, 3999, 4095, 4096, 9000])
    calls = {
        "create": lambda top: write(f"{top}/{first}", os.O_CREAT | os.O_TRUNC, text),
        "exclusive": lambda top: write(f"{top}/{first}", os.O_CREAT | os.O_EXCL, text),
        "append": lambda top: write(f"{top}/{first}", os.O_APPEND, text),
        "unlink": lambda top: os.unlink(f"{top}/{first}"),
        "rename": lambda top: os.rename(f"{top}/{first}", f"{top}/{second}"),
        "mkdir": lambda top: os.mkdir(f"{top}/{first}", 0o755),
        "rmdir": lambda top: os.rmdir(f"{top}/{first}"),
        "link": lambda top: os.link(f"{top}/{first}", f"{top}/{second}", follow_symlinks=False),
        "utime": lambda top: (os.utime(f"{top}/{first}", ns=(10**18, when)), os.stat(f"{top}/{first}").st_mtime_ns),
        "poke": lambda top: poke(f"{top}/{first}", at, text[:50]),
        "truncate": lambda top: os.truncate(f"{top}/{first}", at),
        "stat": lambda top: (lambda info: (info.st_mode, info.st_nlink, 0 if stat.S_ISDIR(info.st_mode) else info.st_size))(os.lstat(f"{top}/{first}")),
        "read": lambda top: read(f"{top}/{first}"),
        "symlink": lambda top: os.symlink("nowhere", f"{top}/{first}"),
        "chmod": lambda top: os.chmod(f"{top}/{first}", mode),
        "list": lambda top: sorted(os.listdir(f"{top}/{os.path.dirname(first)}")),
        "fsync": lambda top: fsync(f"{top}/{first}"),
        "open": lambda top: nameless(f"{top}/{first}", f"{top}/{second}", text),
    }
    return f"{kind} {first} {second} {len(text)}", calls[kind]


def poke(path, at, text):
    """Changes a part of a file that is there; gives what is around it."""
    handle = os.open(path, os.O_RDWR)
    try:
        before = os.pread(handle, 100, max(0, at - 50))
        os.pwrite(handle, text, at)
        return before, os.pread(handle, 200, max(0, at - 50)), os.fstat(handle).st_size
    finally:
        os.close(handle)


def fsync(path):
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def nameless(path, other, text):
    """What is open when it loses its name, or when another takes its place, is what it was."""
    handle = os.open(path, os.O_RDWR)
    try:
        before = os.fstat(handle)
        if len(text) % 2 == 0:
            os.unlink(path)
        else:
            os.rename(other, path)
        info = os.fstat(handle)
        os.pwrite(handle, b"kept", 1)
        return stat.S_IFMT(info.st_mode), info.st_nlink - before.st_nlink, info.st_size == before.st_size, os.pread(handle, 4, 1)
    finally:
        os.close(handle)


def differ(seed, what, ours, theirs, log):
    print(f"seed {seed}: {what}: mount {str(ours)[:300]}, local {str(theirs)[:300]}")
    print("\n".join(log[-25:]))
    sys.exit(1)


def compare(seed, what, mounted, local, log):
    ours, theirs = tree(mounted), tree(local)
    for name in sorted(set(ours) | set(theirs)):
        if ours.get(name) != theirs.get(name):
            differ(seed, f"{what}: {name}", ours.get(name), theirs.get(name), log)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mounted"), parser.add_argument("local")
    parser.add_argument("--second"), parser.add_argument("--seed", type=int, default=1), parser.add_argument("--seconds", type=float, default=10)
    args = parser.parse_args()
    dice, log, until, calls = random.Random(args.seed), [], time.time() + args.seconds, 0
    for top in (args.mounted, args.local):
        os.mkdir(top)
        for name in ("d0", "d1", "d2", "d0/d1"):
            os.mkdir(f"{top}/{name}")
    while time.time() < until:
        what, call = one(dice)
        ours, theirs = outcome(lambda: call(args.mounted)), outcome(lambda: call(args.local))
        log.append(f"{calls}: {what} -> {str(theirs)[:60]}")
        if ours != theirs:
            differ(args.seed, f"call {calls}, {what}", ours, theirs, log)
        calls += 1
        if dice.random() < 0.003:
            compare(args.seed, f"after call {calls}", args.mounted, args.local, log)
        if args.second and dice.random() < 0.002:
            compare(args.seed, f"second mount after call {calls}", args.second, args.local, log)
    compare(args.seed, "at the end", args.mounted, args.local, log)
    print(f"{calls} calls")


main()
