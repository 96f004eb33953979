#!/usr/bin/env python3
"""What a mount with as many leases as it may have does while leaders go.
many-leases.py make DIR --entries N         makes N files, in directories of 5,000
many-leases.py load DIR END --workers N     asks for them all, then each worker makes, writes, renames, asks for and removes files of its own
                                            until the file END exists; prints operations, errors and the longest time of one, milliseconds"""
import argparse, multiprocessing, os, random, sys, time

PER = 5000


def each(path, entries):
    for number in range(entries):
        yield os.path.join(path, f"d{number // PER}", f"f{number}")


def make(path, numbers, entries):
    for name in [n for n in each(path, entries)][numbers[0] :: numbers[1]]:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))


def walk(path):
    count = 0
    for folder, _, names in os.walk(path):
        for name in names:
            os.stat(os.path.join(folder, name))
            count += 1
    return count


def work(path, end, worker, queue):
    own = os.path.join(path, f"w{os.getpid()}-{worker}")
    os.makedirs(own)
    rng, done, errors, longest, number = random.Random(worker), 0, [], 0.0, 0
    folders = [f for f in os.listdir(path) if f.startswith("d")]
    while not os.path.exists(end):
        name = os.path.join(own, f"n{number}")
        number += 1

        def write():
            with open(name, "wb") as file:
                file.write(b"x" * 100)

        def ask():
            folder = rng.choice(folders)
            number = int(folder[1:]) * PER + rng.randrange(PER)
            try:
                os.stat(os.path.join(path, folder, f"f{number}"))
            except FileNotFoundError:
                pass

        for step in (write, ask, lambda: os.rename(name, name + "-"), ask, lambda: os.unlink(name + "-") if number % 2 else None):
            began = time.monotonic()
            try:
                step()
            except OSError as error:
                errors.append(f"{error}")
            longest = max(longest, time.monotonic() - began)
            done += 1
    queue.put((done, errors[:3], len(errors), longest))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("make", "load"))
    parser.add_argument("dir")
    parser.add_argument("end", nargs="?")
    parser.add_argument("--entries", type=int, default=60000)
    parser.add_argument("--workers", type=int, default=4)
    args = parser.parse_args()
    if args.what == "make":
        for number in range(0, args.entries, PER):
            os.makedirs(os.path.join(args.dir, f"d{number // PER}"))
        processes = [
            multiprocessing.Process(target=make, args=(args.dir, (n, args.workers), args.entries)) for n in range(args.workers)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        return any(process.exitcode for process in processes)
    print("walked", walk(args.dir), flush=True)
    queue = multiprocessing.Queue()
    processes = [multiprocessing.Process(target=work, args=(args.dir, args.end, n, queue)) for n in range(args.workers)]
    for process in processes:
        process.start()
    results = [queue.get() for _ in processes]
    for process in processes:
        process.join()
    done, wrong = sum(r[0] for r in results), sum(r[2] for r in results)
    print(f"{done} operations, {wrong} errors, longest {max(r[3] for r in results) * 1000:.0f} ms", [e for r in results for e in r[1]][:5])
    return bool(wrong)


sys.exit(main())
