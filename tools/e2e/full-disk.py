#!/usr/bin/env python3
"""Writes until there is no room, and says what was acknowledged; checks it later.

fill FILE [BYTES]   records of 64 KiB until an error or BYTES; then fsync, close. One line of JSON.
check FILE RECORDS  that many records are there, as they were written
until SECONDS FILE BYTES  writes and syncs a new file again and again until it works; says how long it took
"""
import errno
import hashlib
import json
import os
import sys
import time

RECORD = 64 << 10


def record(name, number):
    seed = hashlib.sha256(f"{os.path.basename(name)} {number}".encode()).digest()
    return (seed * (RECORD // len(seed)))[:RECORD]


def told(error):
    return errno.errorcode.get(error.errno, str(error.errno))


def fill(name, most):
    said = {"records": 0, "open": None, "write": None, "fsync": None, "close": None}
    begun = time.monotonic()
    try:
        handle = os.open(name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
    except OSError as error:
        said["open"] = told(error)
        return said
    try:
        while (said["records"] + 1) * RECORD <= most:
            data = record(name, said["records"])
            done = os.write(handle, data)
            if done < len(data):
                # What follows tells why.
                os.write(handle, data[done:])
            said["records"] += 1
    except OSError as error:
        said["write"] = told(error)
    for what, call in (("fsync", os.fsync), ("close", os.close)):
        try:
            call(handle)
        except OSError as error:
            said[what] = told(error)
    said["seconds"] = round(time.monotonic() - begun, 2)
    return said


def check(name, records):
    with open(name, "rb") as file:
        for number in range(records):
            data = file.read(RECORD)
            if data != record(name, number):
                sys.exit(f"{name}: record {number} of {records} is not what was acknowledged ({len(data)} bytes)")


def until(seconds, name, size):
    begun = time.monotonic()
    while True:
        said = fill(name, size)
        if not any(said[what] for what in ("open", "write", "fsync", "close")):
            check(name, size // RECORD)
            print(f"{time.monotonic() - begun:.1f}")
            return
        if time.monotonic() - begun > seconds:
            sys.exit(f"still no room after {seconds} s: {said}")
        time.sleep(0.2)


def main():
    command, rest = sys.argv[1], sys.argv[2:]
    if command == "fill":
        print(json.dumps(fill(rest[0], int(rest[1]) if len(rest) > 1 else 1 << 60)))
    elif command == "check":
        check(rest[0], int(rest[1]))
    elif command == "until":
        until(float(rest[0]), rest[1], int(rest[2]))
    else:
        sys.exit(__doc__)


main()
