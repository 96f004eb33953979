#!/usr/bin/env python3
"""fsx on one file through several mounts in turn: every operation goes through a mount drawn by the seed, and what is read, and the
size that is told, is compared with a model in memory.   fsx-mounts.py DIR DIR... [--ops N] [--seed S] [--seconds T] [--log FILE]

Each mount has a descriptor that stays open, one opened for reading only, and one for O_DIRECT; now and then one is opened anew. Mappings
are made, used, flushed and dropped within one operation. The last operations are shown when something differs."""
import argparse, collections, ctypes, mmap, os, random, sys, time

libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
KEEP_SIZE, PUNCH, ZERO = 1, 2, 16


def fallocate(fd, mode, at, length):
    if libc.fallocate(fd, mode, at, length) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Differs(Exception):
    pass


class Run:
    def __init__(self, args):
        self.random = random.Random(args.seed)
        self.limit, self.most = args.flen, args.opsize
        self.paths = [os.path.join(d, f"fsx.{args.seed}") for d in args.dirs]
        self.model = bytearray()
        self.trail = collections.deque(maxlen=60)
        self.log = open(args.log, "w") if args.log else None
        os.close(os.open(self.paths[0], os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644))
        self.fds = [dict.fromkeys(("rw", "ro", "direct")) for _ in self.paths]
        for mount in range(len(self.paths)):
            for kind in self.fds[mount]:
                self.open(mount, kind)

    FLAGS = {"rw": os.O_RDWR, "ro": os.O_RDONLY, "direct": os.O_RDWR | os.O_DIRECT}

    def open(self, mount, kind):
        if self.fds[mount][kind] is not None:
            os.close(self.fds[mount][kind])
        self.fds[mount][kind] = os.open(self.paths[mount], self.FLAGS[kind])

    def span(self, end):
        """Where an operation begins and how long it is, not beyond `end`."""
        at = self.random.randrange(max(end, 1))
        length = self.random.randint(1, self.most if self.random.random() < 0.3 else 4096)
        return at, min(length, max(end - at, 0))

    def note(self, mount, text):
        self.trail.append(f"{self.count:8} mount {mount} {text}, size {len(self.model):#x}")
        if self.log:
            print(self.trail[-1], file=self.log)

    def same(self, mount, got, at, want, how):
        if got == want:
            return
        if len(got) != len(want):
            raise Differs(f"mount {mount}: {how} at {at:#x} gave {len(got):#x} bytes, expected {len(want):#x}")
        first = next(i for i in range(len(want)) if got[i] != want[i])
        wrong = sum(a != b for a, b in zip(got, want))
        raise Differs(
            f"mount {mount}: {how} at {at:#x}+{len(want):#x}: byte {at + first:#x} is {got[first]:#x}, expected {want[first]:#x}; {wrong:#x} bytes differ"
        )

    def put(self, at, data):
        if at > len(self.model):
            self.model.extend(bytes(at - len(self.model)))
        self.model[at : at + len(data)] = data

    def read(self, mount):
        at, length = self.span(max(len(self.model), 1))
        length = max(length, 1)
        kind = self.random.choice(("rw", "ro"))
        self.note(mount, f"read {kind} {at:#x}+{length:#x}")
        self.same(mount, os.pread(self.fds[mount][kind], length, at), at, bytes(self.model[at : at + length]), f"read {kind}")

    def write(self, mount):
        at, length = self.span(self.limit)
        data = self.random.randbytes(length)
        self.note(mount, f"write {at:#x}+{length:#x}")
        if os.pwrite(self.fds[mount]["rw"], data, at) != length:
            raise Differs(f"mount {mount}: short write")
        self.put(at, data)

    def direct(self, mount):
        at = self.random.randrange(self.limit // 4096) * 4096
        length = min(self.random.randint(1, 8) * 4096, self.limit - at)
        with mmap.mmap(-1, length) as buffer:
            if self.random.random() < 0.5:
                self.note(mount, f"direct read {at:#x}+{length:#x}")
                count = os.preadv(self.fds[mount]["direct"], [buffer], at)
                self.same(mount, buffer[:count], at, bytes(self.model[at : at + length]), "direct read")
            else:
                self.note(mount, f"direct write {at:#x}+{length:#x}")
                buffer[:] = self.random.randbytes(length)
                if os.pwritev(self.fds[mount]["direct"], [buffer], at) != length:
                    raise Differs(f"mount {mount}: short direct write")
                self.put(at, buffer[:])

    def mapped(self, mount):
        if not self.model:
            return
        at, length = self.span(len(self.model))
        page = at & ~4095
        write = self.random.random() < 0.4
        self.note(mount, f"mapped {'write' if write else 'read'} {at:#x}+{length:#x}")
        access = mmap.PROT_READ | (mmap.PROT_WRITE if write else 0)
        with mmap.mmap(self.fds[mount]["rw"], at + length - page, mmap.MAP_SHARED, access, offset=page) as window:
            if write:
                data = self.random.randbytes(length)
                window[at - page : at - page + length] = data
                window.flush()
                self.put(at, data)
            else:
                self.same(mount, window[at - page : at - page + length], at, bytes(self.model[at : at + length]), "mapped read")

    def truncate(self, mount):
        size = self.random.randrange(self.limit)
        by_name = self.random.random() < 0.5
        self.note(mount, f"truncate {'by name ' if by_name else ''}{size:#x}")
        os.truncate(self.paths[mount] if by_name else self.fds[mount]["rw"], size)
        del self.model[size:]
        self.model.extend(bytes(size - len(self.model)))

    def punch(self, mount):
        at, length = self.span(self.limit)
        mode = self.random.choice((PUNCH | KEEP_SIZE, ZERO | KEEP_SIZE, ZERO, 0))
        self.note(mount, f"fallocate mode {mode} {at:#x}+{length:#x}")
        fallocate(self.fds[mount]["rw"], mode, at, length)
        if mode & (PUNCH | ZERO):
            stop = min(at + length, len(self.model))
            if at < stop:
                self.model[at:stop] = bytes(stop - at)
        if not mode & KEEP_SIZE:
            self.model.extend(bytes(max(at + length - len(self.model), 0)))

    def copy(self, mount):
        at, length = self.span(max(len(self.model), 1))
        to = self.random.randrange(max(self.limit - length, 1))
        if length == 0 or abs(to - at) < length:
            return
        self.note(mount, f"copy_file_range {at:#x}+{length:#x} to {to:#x}")
        fd, done = self.fds[mount]["rw"], 0
        # The kernel cuts the length at the size that it knows, without asking (docs/semantics.md).
        os.fstat(fd)
        while done < length:
            count = os.copy_file_range(fd, fd, length - done, at + done, to + done)
            if count == 0:
                raise Differs(f"mount {mount}: copy_file_range ended after {done:#x} bytes")
            done += count
        self.put(to, bytes(self.model[at : at + length]))

    def size(self, mount):
        by_name = self.random.random() < 0.5
        self.note(mount, f"stat {'by name' if by_name else 'by descriptor'}")
        told = (os.stat(self.paths[mount]) if by_name else os.fstat(self.fds[mount]["rw"])).st_size
        if told != len(self.model):
            raise Differs(f"mount {mount}: the size told is {told:#x}, expected {len(self.model):#x}")

    def end(self, mount):
        """SEEK_END, and nothing but zeroes in what is called a hole."""
        fd = self.fds[mount]["ro"]
        self.note(mount, "seek")
        told = os.lseek(fd, 0, os.SEEK_END)
        if told != len(self.model):
            raise Differs(f"mount {mount}: the end is at {told:#x}, expected {len(self.model):#x}")
        if not self.model:
            return
        at = self.random.randrange(len(self.model))
        hole = os.lseek(fd, at, os.SEEK_HOLE)
        try:
            data = os.lseek(fd, hole, os.SEEK_DATA) if hole < len(self.model) else hole
        except OSError:
            data = len(self.model)
        if any(self.model[hole:data]):
            raise Differs(f"mount {mount}: {hole:#x}..{data:#x} is called a hole and is not")

    def sync(self, mount):
        self.note(mount, "fsync")
        self.random.choice((os.fsync, os.fdatasync))(self.fds[mount]["rw"])

    def reopen(self, mount):
        kind = self.random.choice(tuple(self.fds[mount]))
        self.note(mount, f"open anew {kind}")
        self.open(mount, kind)

    WEIGHTS = {"read": 30, "write": 30, "direct": 5, "mapped": 6, "truncate": 4, "punch": 4, "copy": 3, "size": 8, "end": 4, "sync": 2, "reopen": 4}

    def go(self, ops, seconds):
        names, weights = list(self.WEIGHTS), list(self.WEIGHTS.values())
        stop = time.monotonic() + seconds
        for self.count in range(1, ops + 1):
            mount = self.random.randrange(len(self.paths))
            name = self.random.choices(names, weights)[0]
            try:
                getattr(self, name)(mount)
            except (Differs, OSError) as error:
                print(f"operation {self.count}: {type(error).__name__}: {error}")
                print("\n".join(self.trail))
                return False
            if time.monotonic() > stop:
                break
        for mount in range(len(self.paths)):
            with open(self.paths[mount], "rb") as file:
                self.same(mount, file.read(), 0, bytes(self.model), "the end's read")
        os.unlink(self.paths[0])
        return True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dirs", nargs="+")
    parser.add_argument("--ops", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--flen", type=int, default=262144)
    parser.add_argument("--opsize", type=int, default=65536)
    parser.add_argument("--log")
    args = parser.parse_args()
    run, began = Run(args), time.monotonic()
    done = run.go(args.ops, args.seconds)
    took = time.monotonic() - began
    print(f"{run.count} operations through {len(args.dirs)} mounts, seed {args.seed}, {took:.1f} s, {run.count / took:.0f}/s")
    return 0 if done else 1


sys.exit(main())
