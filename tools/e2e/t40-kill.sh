#!/usr/bin/env bash
# A replicated cluster of processes, each kind killed with -9 while tar unpacks; and how long a dead MRC leader stalls.
. "$(dirname "$0")/instance.sh"
must_up --separate --dirs 3 --mrcs 3 --osds 4 --stripe-width 4
export here

python3 "$here/make-tree.py" "$work/tree" "$(sized 4000 1000)"
rm -f "$work/tree/fifo"
tar -C "$work/tree" -cf "$work/tree.tar" .
# tar unpacks for as long as services are killed, into a new folder each time; each time it must end with 0.
(
  round=0
  until [ -e "$work/enough" ]; do
    round=$((round + 1))
    mkdir "$mnt/x$round" && tar -C "$mnt/x$round" -xpf "$work/tree.tar" || exit 1
  done
  echo $round >"$work/rounds"
) >"$work/tar.out" 2>&1 </dev/null &
tar=$!

kill_and_start() {
  local name=$1
  [ -n "$name" ] || { bad "no such service to kill"; return; }
  sleep "$(sized 3 1)"
  local during=finished
  kill -0 $tar 2>/dev/null && during=running
  murder "$name" && echo "     kill -9 $name (tar $during)"
  sleep "$(sized 2 0.7)"
  revive "$name" && ok "kill -9 of $name, then xtfs start $name" || { bad "xtfs start $name: $(tail -n 2 "$work/start.out")"; }
}
kill_and_start osd-1
kill_and_start "$(leader_of mrc)"
kill_and_start "$(leader_of dir)"
kill_and_start mrc-0
kill_and_start osd-3
[ -n "$(pid_of mount-0)" ] && kill_and_start mount-0
[ -n "$(pid_of exec-0)" ] && kill_and_start exec-0

touch "$work/enough"
limit=$(sized 600 180)
for _ in $(seq $((limit * 10))); do kill -0 $tar 2>/dev/null || break; sleep 0.1; done
if kill -0 $tar 2>/dev/null; then
  bad "tar still runs after $limit s"; kill -9 $tar
else
  wait $tar && ok "tar ended with 0, $(cat "$work/rounds") times" || bad "tar failed: $(tail -n 3 "$work/tar.out")"
fi
for copy in "$mnt"/x*; do
  check "the tree in ${copy##*/} is identical" "$(sized 300 120)" diff -r --no-dereference "$work/tree" "$copy"
done
check_sh "every service is up again" 30 '
  for _ in $(seq 100); do
    "$XTFS" ps --data "$data" --json >"$work/ps.json"
    jq -e "all(.[]; .pid != null and (.state | test(\"up|running|ready|ok\")))" "$work/ps.json" >/dev/null && exit 0; sleep 0.2
  done; jq -c ".[] | [.name, .pid, .state]" "$work/ps.json"; exit 1'

# The clients that were killed above are dead for good: a new leader has to wait out what they may hold (6.5 s). That is another
# fault than this one, with a script of its own (t42-expel.sh), so the leader hears first that their sessions are over
# (SESSION_TTL_MS and a round of its keeper).
sleep 17
rounds=$(sized 5 2)
for round in $(seq "$rounds"); do
  leader=$(leader_of mrc)
  [ -n "$leader" ] || { bad "no MRC leader known in round $round"; continue; }
  timeout -k 5 60 python3 "$here/stall.py" "$mnt/stall$round" 5 "$work/acked$round" >"$work/stall.out" 2>&1 &
  loop=$!
  sleep 2
  murder "$leader"
  wait $loop
  read -r longest number <"$work/stall.out"
  if [[ $longest =~ ^[0-9]+$ ]]; then
    [ "$longest" -lt 2000 ] && ok "kill -9 of $leader: longest operation $longest ms of $number" || bad "kill -9 of $leader stalled $longest ms, limit 2000"
  else
    bad "operations failed while $leader was dead: $(tail -n 2 "$work/stall.out")"
  fi
  revive "$leader" || bad "xtfs start $leader: $(tail -n 2 "$work/start.out")"
  export round
  check_sh "$(wc -l <"$work/acked$round") acknowledged files are there" 60 '
    while read -r path; do
      [ "$(cat "$path")" = "$path.tmp" ] && continue
      echo "lost $path: $(stat -c "size %s, inode %i, %y" "$path")"; sleep 7; echo "7 s later: $(cat "$path")"; exit 1
    done <"$work/acked$round"' || grep -aE "WARN|ERROR" "$data/log/mount-0.log" | tail -n 20
  for _ in $(seq 50); do [ -n "$(leader_of mrc)" ] && break; sleep 0.2; done
done
finish
