"""Drives $XTFS_SHARED/peers: brings all systems up, runs the workloads on them in turn, takes them down."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

# Workloads of workloads.py that share a file or a directory stay together; everything else takes turns.
UNITS = {"data": "W1,W2,W3,W4", "meta": "W5", "small": "W6", "sqlite": "W8", "tree": "W7"}
# Short enough for all systems in ten minutes; each may be set from outside.
KNOBS = {"FIO_SIZE": "256m", "FIO_RT": "2", "FIO_CAP": "6", "MD_N": "2000", "MD_CAP": "1.5", "SQL_CAP": "3",
         "STEP_CAP": "20"}
STEP_SECONDS = 300


class Driver:
    def __init__(self, folder, xtfs):
        self.script = folder / "peers.sh"
        self.workloads = folder / "workloads.sh"
        self.env = {**KNOBS, **os.environ, "XTFS": str(xtfs)}

    def peers(self, *words, log=None, seconds=120):
        """One command of peers.sh; its output, or the reason why not."""
        # A daemon that keeps the pipe open must not keep us: output goes to files.
        with open(log or os.devnull, "ab") as errors:
            done = subprocess.run([self.script, *words], env=self.env, stdout=subprocess.PIPE if not log else errors,
                                  stderr=errors, timeout=seconds, check=False)
        if done.returncode != 0:
            tail = Path(log).read_text(errors="replace")[-400:] if log else ""
            raise RuntimeError(f"`peers.sh {' '.join(words)}` failed with status {done.returncode}: {tail.strip()}")
        return (done.stdout or b"").decode().strip()

    def run(self, peer, rep, unit, lines, log):
        mount, group = self.peers("path", peer), self.peers("cg", peer)
        command = [self.workloads, mount, "--peer", peer, "--rep", str(rep), "--only", UNITS[unit], "--cg", group,
                   "--out", str(lines)]
        if peer != "ext4":
            command += ["--remount", f"{self.script} remount {peer}"]
        with open(log, "ab") as output:
            done = subprocess.run(command, env=self.env, stdout=output, stderr=output, timeout=STEP_SECONDS,
                                  check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{unit} on {peer} ended with status {done.returncode}; see {log}")


def missing_programs(wanted):
    programs = {"fio": "fio", "gluster": "glusterd", "mfs": "mfsmaster"}
    kinds = {peer.partition("-")[0] for peer in wanted} | {"fio"}
    gone = [program for kind, program in programs.items() if kind in kinds and shutil.which(program) is None]
    root = Path(os.environ.get("PEERS_ROOT") or Path(os.environ.get("TMPDIR") or "/tmp") / "peers")
    return gone + [str(path) for path in (root / "bin" / "mdbench",) if not path.exists()]


def measure(folder, xtfs, options, lines):
    """Appends JSON lines to `lines`; gives what went wrong."""
    wanted, units = options.peers.split(","), options.units.split(",")
    unknown = [unit for unit in units if unit not in UNITS]
    if unknown:
        sys.exit(f"bench: no workload {', '.join(unknown)}; there are {', '.join(UNITS)}")
    # Network namespaces and CPU groups are named by the system alone: one benchmark at a time on a machine.
    with open("/tmp/xtfs-bench.lock", "w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.exit("bench: another benchmark runs on this machine (/tmp/xtfs-bench.lock); wait for it")
        return measure_alone(Driver(folder, xtfs), wanted, units, options.reps, lines)


def measure_alone(driver, wanted, units, reps, lines):
    missing = missing_programs(wanted)
    if missing:
        note(f"installing the other systems (about 1 GiB of Debian packages); missing: {', '.join(missing)}")
        driver.peers("install", log=lines.with_name("install.log"), seconds=1800)
    up, failures = [], []
    try:
        # GlusterFS keeps a copy of all mounts in a namespace of its own; what is mounted before it is never really unmounted: the
        # process of a mount lives on beside the next one, and "after remount" would mean something else.
        for peer in sorted(wanted, key=lambda peer: not peer.startswith("gluster")):
            bring_up(driver, peer, up, failures, lines)
        for rep in range(1, reps + 1):
            for turn, unit in enumerate(units):
                # Another one starts each time: a noisy minute does not always hit the same.
                first = (rep + turn) % max(len(up), 1)
                for peer in up[first:] + up[:first]:
                    started = time.monotonic()
                    try:
                        driver.run(peer, rep, unit, lines, lines.with_name(f"{peer}.log"))
                    except (RuntimeError, subprocess.TimeoutExpired) as error:
                        failures.append(str(error))
                    note(f"{rep}/{reps} {unit:7} {peer:14} {time.monotonic() - started:5.1f} s")
    finally:
        for peer in up:
            try:
                driver.peers("down", peer, "wipe", log=lines.with_name(f"{peer}.log"))
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                failures.append(f"taking {peer} down: {error}")
    return failures


def bring_up(driver, peer, up, failures, lines):
    started = time.monotonic()
    # Known before it works: a half-started one is taken down as well.
    up.append(peer)
    log = lines.with_name(f"{peer}.log")
    try:
        driver.peers("up", peer, log=log)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        failures.append(f"{peer} did not start: {error}")
        up.remove(peer)
        driver.peers("down", peer, "wipe", log=log)
        return
    seconds = round(time.monotonic() - started, 2)
    note(f"up {peer} {seconds} s")
    with open(lines, "a", encoding="utf-8") as out:
        out.write(json.dumps({"peer": peer, "rep": 1, "w": "UP", "secs": seconds, "m": {}}) + "\n")


def long_summary(folder, lines, out):
    """The full tables of summarize.py beside our short one."""
    done = subprocess.run([sys.executable, folder / "summarize.py", lines, "--md"], capture_output=True, text=True,
                          check=False)
    out.write_text(done.stdout if done.returncode == 0 else f"summarize.py failed:\n{done.stderr}")


def note(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)
