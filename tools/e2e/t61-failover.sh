#!/usr/bin/env bash
# How long a writer stands still when the OSD that leads its file dies (kill -9) or hangs (SIGSTOP): median and longest.
. "$(dirname "$0")/instance.sh"
must_up --separate --dirs 3 --mrcs 3 --osds 4 --replicas 3 --no-exec

# primary_of FILE: the name of the process that leads the file's first column.
primary_of() {
  local info osd addr
  info=$("$XTFS" info "$1" --json) || return 1
  osd=$(jq -r '.layout.columns[0][0]' <<<"$info")
  addr=$(jq -r --argjson o "$osd" '.osds[] | select(.osd == $o) | .addr' <<<"$info")
  "$XTFS" ps --data "$data" --json | jq -r --arg a "$addr" '.[] | select(.addr == $a) | .name'
}

in_sync() {
  local dirs
  dirs=$(jq -r .dir "$work/up.json" | sed 's,tcp://,,g')
  for _ in $(seq 150); do
    "$XTFS" status --dir "$dirs" --json 2>/dev/null | jq -e '.replication.in_sync' >/dev/null && return 0
    sleep 0.2
  done
  "$XTFS" status --dir "$dirs" | grep replication
  return 1
}

# round KIND N: one writer, one fault in its midst; appends the longest stall to $work/KIND.
round() {
  local kind=$1 file=$mnt/$1-$2 victim pid
  python3 "$here/stall-write.py" "$file" 6 >"$work/stall.out" 2>&1 </dev/null &
  local writer=$!
  sleep 2
  victim=$(primary_of "$file")
  pid=$(pid_of "$victim")
  case $kind in
    kill) kill -9 "$pid" ;;
    stop) kill -STOP "$pid" ;;
    none) ;;
  esac
  wait $writer || bad "the writer failed: $(cat "$work/stall.out")"
  case $kind in
    kill) revive "$victim" || bad "xtfs start $victim: $(tail -n 2 "$work/start.out")" ;;
    stop) kill -CONT "$pid" ;;
  esac
  read -r longest _ <"$work/stall.out"
  echo "     $kind of $victim: longest operation $longest ms"
  echo "$longest" >>"$work/$kind"
  in_sync || bad "not in sync 30 s after the $kind of $victim"
}

# summary KIND MEDIAN MOST: both limits in milliseconds.
summary() {
  local median most
  median=$(sort -n "$work/$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }')
  most=$(sort -n "$work/$1" | tail -n 1)
  local text="$1: median $median ms, longest $most ms of $(wc -l <"$work/$1")"
  [ "$median" -le "$2" ] && [ "$most" -le "$3" ] && ok "$text" || bad "$text; limits $2 and $3"
}

rounds=$(sized 10 7)
for n in $(seq 2); do round none "$n"; done
for n in $(seq "$rounds"); do round kill "$n"; done
for n in $(seq "$(sized 6 2)"); do round stop "$n"; done
echo "     without a fault: longest $(sort -n "$work/none" | tail -n 1) ms; load $(cut -d' ' -f1-3 /proc/loadavg)"
summary kill 200 1000
summary stop 2000 2000
check "down" 60 "$XTFS" down --data "$data"
finish
