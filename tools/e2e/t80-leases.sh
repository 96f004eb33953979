#!/usr/bin/env bash
# Two mounts of one volume, and one of their processes stopped (SIGSTOP) past the time of its leases: what it kept is not shown, what it was
# writing does not come over what was written meanwhile, and afterwards it works on.
. "$(dirname "$0")/instance.sh"
must_up --separate --dirs 1 --mrcs 3 --osds 3
second=$work/second
mkdir "$second"
timeout 60 "$XTFS" mount --json "xtfs://$(jq -r .dir "$work/up.json")/default" "$second" >"$work/second.json" || { bad "a second mount"; finish; }
export second
stopped=$(jq -r .pid "$work/second.json")
echo "$stopped" >>"$work/pids"
ok "a second mount, process $stopped"

# A directory that is open here and removed there has no names, as a local one.
cat >"$work/removed.py" <<'PY'
import errno, os, sys
here, there = sys.argv[1:3]
os.mkdir(here + "/gone")
fd = os.open(here + "/gone", os.O_RDONLY | os.O_DIRECTORY)
open(here + "/kept", "w").close()
os.rmdir(there + "/gone")
assert os.listdir(fd) == [], "a listing"
assert os.fstat(fd).st_nlink == 0, "links"
changes = {
    "create": lambda: os.open("x", os.O_CREAT | os.O_RDWR, dir_fd=fd),
    "mkdir": lambda: os.mkdir("x", dir_fd=fd),
    "symlink": lambda: os.symlink("t", "x", dir_fd=fd),
    "link": lambda: os.link(here + "/kept", "x", dst_dir_fd=fd),
    "rename": lambda: os.rename(here + "/kept", "x", dst_dir_fd=fd),
    "stat": lambda: os.stat("x", dir_fd=fd),
}
for name, change in changes.items():
    try:
        change()
    except OSError as error:
        assert error.errno == errno.ENOENT, f"{name}: {error}"
    else:
        sys.exit(f"{name} in a directory that was removed")
os.unlink(here + "/kept")
PY
check "a directory removed there has no names here" 30 python3 "$work/removed.py" "$mnt" "$second"

# Writes 'old' blocks over one another until told to end; says what became of each write.
cat >"$work/writer.py" <<'PY'
import mmap, os, sys
path, end = sys.argv[1:3]
fd = os.open(path, os.O_RDWR)
# On a page boundary: from elsewhere the kernel makes two requests of a write of a mebibyte.
block = mmap.mmap(-1, 1 << 20)
block[:] = b"old!" * (1 << 18)
while True:
    try:
        os.pwrite(fd, block, 0)
        said = "ok"
    except OSError as error:
        said = os.strerror(error.errno)
    print(said, flush=True)
    if os.path.exists(end):
        break
PY
python3 -c 'import sys; sys.stdout.buffer.write(b"old!" * (1 << 18))' >"$second/data"
echo kept >"$second/kept"
stat "$second/kept" >/dev/null
[ "$(cat "$second/kept")" = kept ] || bad "what the second mount wrote is not there"

rounds=$(sized 4 1)
for round in $(seq "$rounds"); do
  rm -f "$work/end"
  python3 "$work/writer.py" "$second/data" "$work/end" >"$work/writer.out" 2>&1 </dev/null &
  writer=$!
  sleep 1
  kill -STOP "$stopped"
  sleep 0.2
  check_sh "round $round: the other mount writes within the time of a lease" 30 \
    'python3 -c "import os, sys; fd = os.open(sys.argv[1], os.O_RDWR); os.pwrite(fd, b\"new!\" * (1 << 18), 0); os.fsync(fd)" "$mnt/data" && echo "new '"$round"'" >"$mnt/kept"'
  # Its time is over: whoever asks the stopped mount waits, and does not see what was.
  timeout -k 1 2 cat "$second/kept" >"$work/shown" 2>/dev/null </dev/null
  if [ -s "$work/shown" ] && [ "$(cat "$work/shown")" != "new $round" ]; then
    bad "round $round: a stopped mount shows $(head -c 40 "$work/shown")"
  else
    ok "round $round: a stopped mount shows nothing old"
  fi
  touch "$work/end"
  kill -CONT "$stopped"
  for _ in $(seq 150); do kill -0 $writer 2>/dev/null || break; sleep 0.2; done
  kill -0 $writer 2>/dev/null && { bad "round $round: the writer still waits"; kill -9 $writer; }
  wait $writer 2>/dev/null
  last=$(tail -n 1 "$work/writer.out")
  # A write that was acknowledged overlapped the other one: either may be the later one, but nothing in between. One that
  # failed was not done at all.
  if [ "$last" = ok ]; then want='(old|new)'; else want=new; fi
  export want
  check_sh "round $round: the last write said '$last', and both mounts hold '$want' only, the same" 60 \
    'cmp "$mnt/data" "$second/data" || exit 1
     for at in "$mnt" "$second"; do [[ "$(head -c 1048576 "$at/data" | fold -w 4 | sort -u)" =~ ^$want!$ ]] || { head -c 1048576 "$at/data" | fold -w 4 | sort | uniq -c | head; exit 1; }; done'
  check_sh "round $round: it works on" 30 \
    '[ "$(cat "$second/kept")" = "new '"$round"'" ] && echo again >"$second/kept" && [ "$(cat "$mnt/kept")" = again ]'
done
check_sh "an expelled client said so in no error but its own" 10 '! grep -v -e "^ok$" -e "Input/output error" "$work/writer.out"'
umount "$second" 2>/dev/null || fusermount3 -u "$second"
finish
