#!/usr/bin/env bash
# Locks of programs: decided by the mount alone where nobody else wants them, and by nobody twice, whatever is killed.
. "$(dirname "$0")/instance.sh"
must_up --separate --no-exec --mrcs 3 --osds 1
second=$work/second
mkdir "$second"
check "a second mount" 60 "$XTFS" mount "xtfs://$(jq -r .dir "$work/up.json")/default" "$second"
export second here
mkdir "$mnt/l"
seconds=$(sized 30 6)
# calls METHOD: how many of them all MRCs have answered.
calls() { local sum=0 n http; while read -r http; do n=$(curl -s "$http/metrics" | awk -v m="method=\"$1\"" '/^xtfs_rpc_calls_total\{/ && index($0, m) { n += $2 } END { print n + 0 }'); sum=$((sum + n)); done < <("$XTFS" ps --data "$data" --json | jq -r '.[] | select(.role == "mrc") | "http://" + (.http | ltrimstr("http://"))'); echo "$sum"; }
export -f calls

cat >"$work/many.py" <<'P'
import fcntl, sys
with open(sys.argv[1], "wb") as file:
    for n in range(500):
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, n)
        fcntl.lockf(file, fcntl.LOCK_UN, 10, n)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(file, fcntl.LOCK_UN)
P
check_sh "2,000 changes of locks that nobody else wants: at most ten calls" 30 'before=$(($(calls Lock) + $(calls TellLocks))) && python3 "$work/many.py" "$mnt/l/many" && after=$(($(calls Lock) + $(calls TellLocks))) && [ $((after - before)) -le 10 ] || { echo "$before $after"; exit 1; }'
check "programs of one mount" $((seconds + 60)) python3 "$here/locks.py" "$mnt/l" --seconds "$seconds" --programs 4
check "programs of two mounts" $((seconds + 60)) python3 "$here/locks.py" "$mnt/l" "$second/l" --seconds "$seconds"

cat >"$work/holder.py" <<'P'
import fcntl, os, sys, time
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 20, 0)
fcntl.lockf(file, fcntl.LOCK_UN, 5, 0)
fcntl.lockf(file, fcntl.LOCK_UN, 10, 10)
open(sys.argv[2], "w").close()
while not os.path.exists(sys.argv[3]):
    time.sleep(0.02)
fcntl.lockf(file, fcntl.LOCK_UN)
open(sys.argv[4], "w").close()
time.sleep(60)
P
cat >"$work/try.py" <<'P'
import fcntl, sys
file = open(sys.argv[1], "r+b")
def free(at):
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, at)
        fcntl.lockf(file, fcntl.LOCK_UN, 1, at)
        return True
    except OSError:
        return False
print("".join("." if free(at) else "X" for at in range(20)))
P
for what in "the mount" "the mount and the MRC leader" "the MRC leader"; do
  file=$mnt/l/held; : >"$file"; rm -f "$work/go" "$work/taken" "$work/freed"
  python3 "$work/holder.py" "$file" "$work/taken" "$work/go" "$work/freed" & holder=$!
  until [ -e "$work/taken" ] || ! kill -0 $holder 2>/dev/null; do sleep 0.02; done
  victim=$(leader_of mrc)
  case $what in *mount*) murder mount-0 || bad "no mount-0" ;; esac
  case $what in *leader*) murder "$victim" || bad "no leader" ;; esac
  case $what in *mount*) revive mount-0 || bad "start mount-0" ;; esac
  check_sh "kill -9 of $what: what a program has locked is locked for the other mount" 30 'out=$(python3 "$work/try.py" "$second/l/held") && [ "$out" = ".....XXXXX.........." ] || { echo "$out"; exit 1; }'
  : >"$work/go"
  until [ -e "$work/freed" ] || ! kill -0 $holder 2>/dev/null; do sleep 0.02; done
  check_sh "and free when it frees it" 30 'out=$(python3 "$work/try.py" "$second/l/held") && [ "$out" = "...................." ] || { echo "$out"; exit 1; }'
  kill $holder; wait $holder 2>/dev/null
  case $what in *leader*) revive "$victim" || bad "start $victim" ;; esac
done

# Kills under programs of both mounts.
kills() {
  local n victim
  for n in $(seq "$1"); do
    sleep 1.5
    case $((n % 3)) in
      0) victim=$(leader_of mrc); murder "$victim"; sleep 1; revive "$victim" ;;
      *) murder mount-0; revive mount-0 ;;
    esac
  done
}
kills "$(sized 12 3)" & killer=$!
check "programs of two mounts while the first mount and MRC leaders are killed" $((seconds + 100)) python3 "$here/locks.py" "$mnt/l" "$second/l" --seconds "$(sized 40 8)"
wait $killer
check_sh "fsck finds nothing" 60 'out=$("$XTFS" fsck "$mnt") && grep -q "everything fits" <<<"$out" || { echo "$out"; exit 1; }'
umount "$second" 2>/dev/null || fusermount3 -u "$second"
finish
