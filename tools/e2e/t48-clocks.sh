#!/usr/bin/env bash
# One machine's wall clock is wrong by an hour, either way, for longer than clients are patient with small hitches: nobody notices. Rights to use
# objects have an end; who judges has two clocks to judge by, his own and the DIR's.
. "$(dirname "$0")/instance.sh"
clocks=$work/clocks
mkdir -p "$clocks"
export XTFS_FAULT_CLOCK=$clocks
seconds=$(sized 20 5)
must_up --separate --dirs 3 --mrcs 3 --osds 4 --replicas 3 --no-exec

cat >"$work/load.py" <<'PY'
"""load.py DIR SECONDS: new files, synced; overwrites, synced; reads past the kernel's cache. Says the longest operation in milliseconds and how many there were."""
import mmap, os, random, sys, time
folder, seconds, dice = sys.argv[1], float(sys.argv[2]), random.Random(48)
os.makedirs(folder, exist_ok=True)
into, count, longest = mmap.mmap(-1, 4096), 0, 0.0
old = [os.open(f"{folder}/old{n}", os.O_RDWR | os.O_CREAT | os.O_DIRECT) for n in range(8)]
holds = [0] * 8
end = time.monotonic() + seconds

def put(fd, value):
    into[:] = b"%4096d" % value
    assert os.pwritev(fd, [into], 0) == 4096
    os.fsync(fd)

for fd in old:
    put(fd, 0)
while time.monotonic() < end:
    begun, n = time.monotonic(), dice.randrange(8)
    count += 1
    if count % 3 == 0:
        fd = os.open(f"{folder}/new{time.time_ns()}", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_DIRECT)
        put(fd, count)
        os.close(fd)
    elif count % 3 == 1:
        put(old[n], count)
        holds[n] = count
    else:
        assert os.preadv(old[n], [into], 0) == 4096
        assert int(into[:]) == holds[n], (n, into[:], holds[n])
    longest = max(longest, time.monotonic() - begun)
print(int(longest * 1000), count)
PY
# wrong WHAT NAME BY: the clock of a process is wrong by so many milliseconds while the load runs.
wrong() {
  local pid longest count
  pid=$(pid_of "$2")
  [ -n "$pid" ] || { bad "$1: it does not run"; return; }
  echo "$3" >"$clocks/clock-$pid"
  # It is looked at every 50 ms; the DIR is heard every 200 ms by OSDs and every second by MRCs.
  sleep 2
  if read -r longest count < <(timeout 120 python3 "$work/load.py" "$mnt/load" "$seconds" 2>"$work/load.err"); then
    [ "$longest" -le 1000 ] && ok "$1: $count operations, the longest $longest ms" || bad "$1: $count operations, the longest $longest ms; limit 1000"
  else
    bad "$1: $(tail -n 2 "$work/load.err")"
  fi
  rm "$clocks/clock-$pid"
  sleep 1
}
hour=3600000
wrong "no clock is wrong" osd-0 0
for way in "" -; do
  for osd in osd-0 osd-1; do wrong "$osd, ${way:-+}1 h" $osd "$way$hour"; done
  leader=$(leader_of mrc)
  wrong "the leader of the MRCs ($leader), ${way:-+}1 h" "$leader" "$way$hour"
  leader=$(leader_of dir)
  wrong "the leader of the DIRs ($leader), ${way:-+}1 h" "$leader" "$way$hour"
done
grep -h "clock is .* ms ahead of the DIR" -r "$data" --include='*.log*' | grep -q . && ok "the log says which clocks to set" || bad "no log says which clocks are wrong"
check_sh "fsck" 120 '"$XTFS" fsck "xtfs://$(jq -r .dir "$work/up.json")/default"'
check "down" 60 "$XTFS" down --data "$data"
finish
