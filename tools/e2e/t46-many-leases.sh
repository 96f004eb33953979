#!/usr/bin/env bash
# Two mounts that hold as many leases as they may; the leader of the MRC group is killed again and again. Nobody is expelled: no error, no write
# that was acknowledged is lost. Then a check of all the metadata answers, also while leaders go on being killed.
#   ENTRIES  files   KILLS  kills of the leader under load   WORKERS  per mount
. "$(dirname "$0")/instance.sh"
: "${ENTRIES:=$(sized 100000 4000)}" "${KILLS:=$(sized 12 3)}" "${WORKERS:=8}"
must_up --separate --dirs 1 --mrcs 3 --osds 1 --no-exec
url=xtfs://$(jq -r .dir "$work/up.json")/default
second=$work/second
mkdir "$second" "$mnt/many"
"$XTFS" mount --foreground "$url" "$second" >"$data/log/second.log" 2>&1 </dev/null &
echo $! >>"$work/pids"
check_sh "a second mount" 60 'until mountpoint -q "'"$second"'"; do sleep 0.1; done'
check "$ENTRIES files" 900 python3 "$here/many-leases.py" make "$mnt/many" --entries "$ENTRIES"
check_sh "a check of them, nothing else going on" 60 "time '$XTFS' fsck '$url'"
tail -n 4 "$work/out" | tr '\n' ' '; echo

for at in "$mnt" "$second"; do
  python3 "$here/many-leases.py" load "$at/many" "$work/end" --workers "$WORKERS" >"$work/load.$(basename "$at")" 2>&1 </dev/null &
done
for _ in $(seq 1200); do [ "$(grep -l walked "$work"/load.* 2>/dev/null | wc -l)" = 2 ] && break; sleep 0.5; done
sleep 2
held() { grep -hoE '^[a-z_]*leases_held[a-z_]* [0-9]+' <(for n in 0 1 2; do curl -sf "http://$("$XTFS" ps --data "$data" --json | jq -r --arg n "mrc-$n" '.[] | select(.name == $n) | .http')/metrics"; done) | tr '\n' ' '; }
echo "     leases: $(held)"
for round in $(seq "$KILLS"); do
  leader=$(leader_of mrc)
  [ -n "$leader" ] || { sleep 1; leader=$(leader_of mrc); }
  murder "$leader"
  sleep 2
  revive "$leader" || bad "xtfs start $leader"
  sleep 3
done
# Long enough for whoever did not come back to be expelled.
sleep 9
touch "$work/end"
for at in "$mnt" "$second"; do
  log=$work/load.$(basename "$at")
  for _ in $(seq 600); do grep -q operations "$log" && break; sleep 0.1; done
  grep -q ' 0 errors' "$log" && ok "load on $(basename "$at"): $(tail -n 1 "$log")" || bad "load on $(basename "$at"): $(tail -n 3 "$log")"
done
wait_none=$(grep -rhE 'all leases were lost|does not hold|session expelled' "$data" --include='*.log' 2>/dev/null | wc -l)
[ "$wait_none" = 0 ] && ok "no session was expelled" || bad "$wait_none lines tell of expelled sessions: $(grep -rhE 'all leases were lost|does not hold|session expelled' "$data" --include='*.log' | head -n 4 | cut -c1-160)"

( for _ in 1 2 3 4; do leader=$(leader_of mrc); murder "$leader"; sleep 1.5; revive "$leader"; sleep 3.5; done ) &
killer=$!
check_sh "a check while leaders are killed every 5 s" 60 "time '$XTFS' fsck '$url'"
cat "$work/out" | tail -n 12 | tr '\n' ' '; echo
wait $killer
# Abandoned checks are over: nobody of the MRC works any more.
sleep 12
busy() { for n in 0 1 2; do pid=$(pid_of "mrc-$n"); echo "$pid $(awk '{ print $14 + $15 }' "/proc/$pid/stat")"; done; }
busy >"$work/before"; sleep 5; busy >"$work/after"
used=$(paste "$work/before" "$work/after" | awk '{ sum += $4 - $2 } END { print sum }')
[ "$used" -lt 100 ] && ok "the MRCs used $used ticks of 10 ms in 5 s afterwards" || bad "the MRCs used $used ticks of 10 ms in 5 s afterwards"
umount "$second" 2>/dev/null || fusermount3 -u "$second"
finish
