#!/usr/bin/env bash
# How long a reader stands still when an OSD hangs (SIGSTOP), dies (kill -9) or becomes slow: others of each column answer meanwhile.
. "$(dirname "$0")/instance.sh"
export XTFS_FAULT_DELAY=1
must_up --separate --dirs 1 --mrcs 1 --osds 4 --replicas 3 --no-exec
export here
files=$(sized 40 24)
stats=$mnt/.xtfs/stats
counter() { awk -v n="$1" '$1 == n { print $2 }' "$stats"; }
# longest KIND MOST: of the last reader, in milliseconds.
longest() {
  local most
  read -r most count p99 long <"$work/$1.out" || { bad "$1: the reader said nothing: $(head -n 3 "$work/$1.err")"; return; }
  local text="$1: longest read $most ms, p99 $p99 us, $long of $count above 200 ms"
  [ "$most" -le "$2" ] && ok "$text" || bad "$text; limit $2 ms"
}
# reader KIND SECONDS: in the background.
reader() { python3 "$here/reads.py" "$mnt/reads" "$files" "$2" 4 >"$work/$1.out" 2>"$work/$1.err" </dev/null & reading=$!; }
settled() {
  local dirs
  dirs=$(jq -r .dir "$work/up.json" | sed 's,tcp://,,g')
  for _ in $(seq 150); do
    "$XTFS" status --dir "$dirs" --json 2>/dev/null | jq -e '.replication.in_sync' >/dev/null && break
    sleep 0.2
  done
  # Columns are opened at their first touch after a change of who leads.
  python3 "$here/reads.py" "$mnt/reads" "$files" 3 4 >/dev/null 2>&1 </dev/null
}

# How many columns each living OSD leads, the most first.
led() {
  "$XTFS" ps --data "$data" --json | jq -r '.[] | select(.role == "osd" and .state == "running") | "\(.name) \(.http)"' | while read -r name http; do
    echo "$(curl -sf "http://${http#http://}/api/v1/status" | jq -r '.. | .columns_led? // empty' | head -n 1) $name"
  done | sort -rn
}

check "files" 60 python3 "$here/reads.py" "$mnt/reads" "$files" 0 1
settled
reader none 4
wait $reading && ok "every read is what was written" || bad "reading: $(head -n 3 "$work/none.err")"
longest none 1000
[ "$(counter hedged_reads)" -le "$(($(cut -d' ' -f2 "$work/none.out") / 20 + 64))" ] &&
  ok "few reads are sent twice: $(counter hedged_reads)" || bad "$(counter hedged_reads) reads were sent twice"

for kind in stop kill slow; do
  # The one that leads the most: one that leads nothing (it was away a moment ago) stalls nobody, whatever happens to it.
  led >"$work/led"
  read -r leads victim <"$work/led"
  [ "${leads:-0}" -gt 0 ] || { bad "$kind: no OSD leads a column: $(cat "$work/led")"; continue; }
  others=$(awk 'NR > 1 { sum += $1 } END { print sum + 0 }' "$work/led")
  before=$(counter replica_reads)
  reader $kind 6
  sleep 2
  pid=$(pid_of "$victim")
  case $kind in
    stop) kill -STOP "$pid" ;;
    kill) kill -9 "$pid" ;;
    slow) echo 300 >"$data/$victim/fault-delay-ms" ;;
  esac
  wait $reading && ok "$kind: every read is what was written" || bad "$kind: reading: $(head -n 3 "$work/$kind.err")"
  longest $kind "${LIMIT:-500}"
  if [ $kind = kill ]; then
    # Its connections end with it, so the next of each list leads within milliseconds: there may be no read left for a replica.
    now=$(led | awk '{ sum += $1 } END { print sum + 0 }')
    [ "$now" -ge "$((others + leads))" ] && ok "kill: others lead the $leads columns of $victim" ||
      bad "kill: $victim led $leads columns, the others $others; now they lead $now"
  else
    after=$(counter replica_reads)
    [ "${after:-0}" -gt "${before:-0}" ] && ok "$kind: replicas answered $((after - before)) reads of the $leads columns of $victim, $(counter hedged_reads) were hedged in all" ||
      bad "$kind: no read was answered by replicas: $(head -n 4 "$stats")"
  fi
  case $kind in
    stop) kill -CONT "$pid" ;;
    kill) revive "$victim" || bad "xtfs start $victim: $(tail -n 2 "$work/start.out")" ;;
    slow) rm "$data/$victim/fault-delay-ms" ;;
  esac
  settled
done
check "down" 60 "$XTFS" down --data "$data"
finish
