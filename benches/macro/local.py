"""Built-in workloads: xtfs as `xtfs up` starts it, beside a directory of the local disk. Needs nothing but Python."""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MIB = 1 << 20
BLOCK = 4096
HERTZ = os.sysconf("SC_CLK_TCK")


class Ext4:
    """A directory of the disk that holds xtfs's data too."""

    name = "ext4"

    def __init__(self, home):
        self.path = home / "local"
        self.path.mkdir()

    def cpu(self):
        return None

    def cold(self):
        drop_caches()

    def stop(self):
        pass


class Xtfs:
    """One `xtfs up`, everything in one process."""

    name = "xtfs"

    def __init__(self, home, binary):
        self.binary, self.data = binary, home / "data"
        self.path = home / "mnt"
        words = ["up", "--data", str(self.data), "--mount", str(self.path), "--no-exec", "--detach", "--json"]
        with open(home / "up.json", "wb") as out, open(home / "up.err", "wb") as errors:
            done = subprocess.run([binary, *words], stdout=out, stderr=errors, timeout=60, check=False)
        if done.returncode != 0:
            self.stop()
            sys.exit(f"bench: `{binary} {' '.join(words)}` failed: {(home / 'up.err').read_text()[-400:]}")

    def processes(self):
        listing = subprocess.run([self.binary, "ps", "--data", str(self.data), "--json"], capture_output=True,
                                 timeout=30, check=True)
        return {entry["pid"] for entry in json.loads(listing.stdout) if entry.get("pid")}

    def cpu(self):
        total = 0
        for pid in self.processes():
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total / HERTZ

    def cold(self):
        drop_caches()

    def stop(self):
        subprocess.run([self.binary, "down", "--data", str(self.data)], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=60, check=False)


def drop_caches():
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3", encoding="ascii")
    except PermissionError:
        pass  # Not root: then both read warm, and the ratio still compares like with like.


def files(folder, count):
    return [folder / f"file-{number:06}" for number in range(count)]


def create(folder, count):
    for path in files(folder, count):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    return count


def stat(folder, count):
    for path in files(folder, count):
        os.stat(path)
    return count


def listing(folder, _):
    return sum(1 for entry in os.scandir(folder) if entry.stat() is not None)


def rename(folder, count):
    for path in files(folder, count):
        os.rename(path, path.with_suffix(".new"))
    return count


def unlink(folder, count):
    for path in files(folder, count):
        os.unlink(path.with_suffix(".new"))
    return count


def small_write(folder, count):
    data = os.urandom(BLOCK)
    for path in files(folder, count):
        with open(path, "wb", buffering=0) as file:
            file.write(data)
    return count


def small_read(folder, count):
    for path in files(folder, count):
        with open(path, "rb", buffering=0) as file:
            assert len(file.read(BLOCK)) == BLOCK, f"{path} is short"
    return count


def big_write(folder, mib):
    data = os.urandom(MIB)
    with open(folder / "big", "wb", buffering=0) as file:
        for _ in range(mib):
            file.write(data)
        os.fsync(file.fileno())
    return mib


def big_read(folder, mib):
    with open(folder / "big", "rb", buffering=0) as file:
        assert sum(len(file.read(MIB)) for _ in range(mib)) == mib * MIB, "the file is short"
    return mib


def random_read(folder, count):
    with open(folder / "big", "rb", buffering=0) as file:
        blocks, chance = os.fstat(file.fileno()).st_size // BLOCK, random.Random(42)
        for _ in range(count):
            os.pread(file.fileno(), BLOCK, chance.randrange(blocks) * BLOCK)
    return count


def synced_write(folder, count):
    data = os.urandom(BLOCK)
    with open(folder / "big", "r+b", buffering=0) as file:
        blocks, chance = os.fstat(file.fileno()).st_size // BLOCK, random.Random(43)
        for _ in range(count):
            os.pwrite(file.fileno(), data, chance.randrange(blocks) * BLOCK)
            os.fdatasync(file.fileno())
    return count


# Label, unit, what, how much of it, quick amount, caches dropped before. In this order: each uses what came before.
STEPS = [
    ("create", "/s", create, 2000, 500, False),
    ("stat just created", "/s", stat, 2000, 500, False),
    ("stat, cold", "/s", stat, 2000, 500, True),
    ("ls -l, cold", "entries/s", listing, 2000, 500, True),
    ("rename", "/s", rename, 2000, 500, False),
    ("unlink", "/s", unlink, 2000, 500, False),
    ("write 4 KiB file", "/s", small_write, 1000, 300, False),
    ("read 4 KiB file, cold", "/s", small_read, 1000, 300, True),
    ("sequential write + fsync", "MiB/s", big_write, 256, 64, False),
    ("sequential read, cold", "MiB/s", big_read, 256, 64, True),
    ("sequential read, warm", "MiB/s", big_read, 256, 64, False),
    ("random read 4 KiB, cold", "/s", random_read, 2000, 500, True),
    ("random write 4 KiB + fdatasync", "/s", synced_write, 300, 100, False),
]


def measure(binary, reps, quick, lines):
    """Appends JSON lines to `lines`; gives what went wrong (nothing, or it has said so and ended)."""
    home = Path(tempfile.mkdtemp(prefix="bench-", dir=lines.parent))
    systems = []
    try:
        systems.append(Ext4(home))
        systems.append(Xtfs(home, binary))
        for rep in range(1, reps + 1):
            folders = {system: system.path / f"rep-{rep}" for system in systems}
            for folder in folders.values():
                folder.mkdir()
            for step in STEPS:
                for system in systems[rep % 2:] + systems[:rep % 2]:
                    measured = one(system, folders[system], step, quick)
                    with open(lines, "a", encoding="utf-8") as out:
                        out.write(json.dumps({"system": system.name, "rep": rep, **measured}) + "\n")
            for folder in folders.values():
                shutil.rmtree(folder)
            print(f"bench: {rep}/{reps} done", file=sys.stderr, flush=True)
    finally:
        for system in systems:
            system.stop()
        if not os.path.ismount(home / "mnt"):
            shutil.rmtree(home, ignore_errors=True)
    return []


def one(system, folder, step, quick):
    label, unit, what, amount, quick_amount, cold = step
    if cold:
        system.cold()
    before, started = system.cpu(), time.monotonic()
    done = what(folder, quick_amount if quick else amount)
    seconds = time.monotonic() - started
    cpu = None if before is None else round((system.cpu() - before) / done * 1e6, 1)
    return {"workload": label, "unit": unit, "value": round(done / seconds, 1), "cpu_us_op": cpu}
