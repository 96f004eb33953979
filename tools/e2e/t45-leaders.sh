#!/usr/bin/env bash
# The leader of the MRC group, then that of the DIR, killed with -9 again and again under a load of names and of data; then all
# members of a group at once. No error, nothing acknowledged is lost, and how long the load stands still: median and longest.
#   ROUNDS  kills of each kind of leader   ACKED  acked.py of the suites, for a second load; without it there is none
#   ROLES   whose leaders: mrc, dir
. "$(dirname "$0")/instance.sh"
: "${ROUNDS:=$(sized 50 6)}" "${ACKED:=}"
# Milliseconds. A machine that other work keeps busy gets more in the quick mode.
median_limit=$(sized 700 1500) limit=$(sized 2000 3000)
must_up --separate --dirs 3 --mrcs 3 --osds 3 --no-exec
export here ACKED

python3 "$here/load.py" run "$mnt/names" "$work/end" "$work/names" >"$work/names.out" 2>"$work/names.err" </dev/null &
names=$!
acked=
if [ -f "$ACKED" ]; then
  mkdir "$mnt/acked" "$work/acklog"
  python3 "$ACKED" run "$mnt/acked" "$work/acklog" --seconds 3600 --procs 2 --seed 7 >"$work/acked.out" 2>&1 </dev/null &
  acked=$!
fi
sleep 3

# settled ROLE: somebody leads, and all members are there and have what is committed.
settled() {
  for _ in $(seq 150); do
    timeout 20 "$XTFS" "$1" members --json --data "$data" 2>/dev/null |
      jq -e 'any(.[]; .leader) and all(.[]; .error == null and .behind < 1000)' >/dev/null && return 0
    sleep 0.1
  done
  return 1
}

longest() { python3 "$here/load.py" longest "$work/names" "$1" "$2"; }

# kill_leaders ROLE: ROUNDS kills; the longest operation of each goes to $work/ROLE.
kill_leaders() {
  local role=$1 leader begin took what
  : >"$work/$role"
  for round in $(seq "$ROUNDS"); do
    settled "$role" || { bad "$role: not settled before kill $round"; continue; }
    leader=$(leader_of "$role")
    [ -n "$leader" ] || { bad "$role: nobody leads before kill $round"; continue; }
    sleep "0.$((RANDOM % 10))"
    begin=$(now_ms)
    murder "$leader"
    sleep 2.5
    read -r took what <<<"$(longest "$begin" "$(now_ms)")"
    echo "$took $what $leader" >>"$work/$role"
    revive "$leader" || bad "xtfs start $leader: $(tail -n 2 "$work/start.out")"
  done
  local median most
  median=$(sort -n "$work/$role" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }')
  most=$(sort -n "$work/$role" | tail -n 1)
  local text="$role leader killed $(wc -l <"$work/$role") times: median $median ms, longest $most; load $(cut -d' ' -f1-3 /proc/loadavg)"
  [ "$median" -le "$median_limit" ] && [ "${most%% *}" -le "$limit" ] && ok "$text" || bad "$text; limits $median_limit and $limit"
  echo "     $(cut -d' ' -f1 "$work/$role" | sort -n | tr '\n' ' ')"
}

# kill_all ROLE: all members at once; the load stands still until they are back.
kill_all() {
  local role=$1 begin name members
  settled "$role" || bad "$role: not settled before all are killed"
  members=$("$XTFS" ps --data "$data" --json | jq -r --arg r "$role" '.[] | select(.role == $r) | .name')
  begin=$(now_ms)
  # shellcheck disable=SC2046
  kill -9 $(for name in $members; do pid_of "$name"; done)
  for name in $members; do revive "$name" || bad "xtfs start $name: $(tail -n 2 "$work/start.out")"; done
  settled "$role" && ok "all $role members killed at once and started again: settled after $(($(now_ms) - begin)) ms" || bad "$role: not settled after all were killed"
  sleep 2
  echo "     longest operation meanwhile: $(longest "$begin" "$(now_ms)")"
}

for role in ${ROLES:-mrc dir}; do kill_leaders "$role"; done
for role in ${ROLES:-mrc dir}; do for _ in $(seq "$(sized 3 1)"); do kill_all "$role"; done; done

touch "$work/end"
for _ in $(seq 300); do kill -0 "$names" 2>/dev/null || break; sleep 0.1; done
kill -9 "$names" 2>/dev/null && bad "the load hangs"
read -r longest count errors <"$work/names.out" || { longest=- count=0 errors=unknown; }
[ "$errors" = 0 ] && ok "load: $count operations, no error, the longest $longest ms" || bad "load: $count operations, errors: $errors: $(tail -n 3 "$work/names.err")"
check "everything acknowledged is there" 120 python3 "$here/load.py" verify "$mnt/names" "$work/names"
echo "     $(tail -n 1 "$work/out")"
if [ -n "$acked" ]; then
  # Its workers may be in the middle of an operation: such a one may have been done or not.
  # shellcheck disable=SC2046
  kill -9 "$acked" $(cat "$work/acklog/pids" 2>/dev/null) 2>/dev/null
  wait "$acked" 2>/dev/null
  failed_ops=$(cat "$work"/acklog/w*.log | grep -c '^E')
  [ "$failed_ops" = 0 ] && ok "acked.py: no operation failed" || bad "acked.py: $failed_ops operations failed: $(grep -h '^E' "$work"/acklog/w*.log | cut -d' ' -f3 | sort | uniq -c | tr '\n' ' ')"
  check "acked.py: nothing acknowledged is lost" 300 python3 "$ACKED" verify "$mnt/acked" "$work/acklog"
  echo "     $(head -n 1 "$work/out")"
fi
check "down" 60 "$XTFS" down --data "$data"
finish
