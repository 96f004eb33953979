#!/usr/bin/env bash
# An OSD that takes 100 ms longer for everything: others lead its columns, and reads, writes and new files are nearly as quick as
# before. When it is quick again it leads again.
. "$(dirname "$0")/instance.sh"
export XTFS_FAULT_DELAY=1
must_up --separate --dirs 1 --mrcs 1 --osds 4 --replicas 3 --no-exec
export here
files=$(sized 60 24)
seconds=$(sized 20 6)
dirs=$(jq -r .dir "$work/up.json" | sed 's,tcp://,,g')
is_slow() { "$XTFS" osd ls --dir "$dirs" --json | jq -e --argjson o "$1" 'any(.[]; .osd == $o and .slow)' >/dev/null; }
osd_number() {
  local addr
  addr=$("$XTFS" ps --data "$data" --json | jq -r --arg n "$1" '.[] | select(.name == $n) | .addr')
  "$XTFS" osd ls --dir "$dirs" --json | jq -r --arg a "$addr" '.. | objects | select(.addr? == $a and has("osd")) | .osd' | head -n 1
}
# p99 KIND: of the last measurement.
p99() { awk -v k="$1" '{ for (i = 1; i <= NF; i++) if ($i == k) print $(i + 3) }' "$work/slow.out"; }
measure() {
  python3 "$here/slow.py" "$mnt/slow" "$files" "$seconds" "$1" >"$work/slow.out" 2>"$work/slow.err" </dev/null
  local status=$?
  echo "     $(cat "$work/slow.out" "$work/slow.err" | head -n 3)"
  return $status
}

victim=osd-0
number=$(osd_number $victim)
measure before && ok "every read is what was written last" || bad "measuring: $(cat "$work/slow.out")"
read_before=$(p99 read) write_before=$(p99 write) create_before=$(p99 create)

echo 100 >"$data/$victim/fault-delay-ms"
measure while-it-begins && ok "every read is what was written last, while others take over" || bad "measuring: $(cat "$work/slow.out")"
for _ in $(seq 100); do is_slow "$number" && break; sleep 0.1; done
is_slow "$number" && ok "$victim (osd#$number) counts as slow" || bad "$victim does not count as slow: $("$XTFS" osd ls --dir "$dirs" --json)"
# Every column of it is opened by somebody else at the first touch.
sleep 2
measure warm-up >/dev/null
measure slow && ok "every read is what was written last, with a slow OSD" || bad "measuring: $(cat "$work/slow.out")"
for kind in read write create; do
  now=$(p99 $kind)
  before=${kind}_before
  # Below 4 ms the noise of a busy machine is larger than what is measured.
  limit=$((2 * (${!before} > 4000 ? ${!before} : 4000)))
  [ "$now" -le "$limit" ] && ok "p99 of $kind: $now us with a slow OSD, ${!before} us before" ||
    bad "p99 of $kind: $now us with a slow OSD, ${!before} us before"
done

rm "$data/$victim/fault-delay-ms"
for _ in $(seq 300); do is_slow "$number" || break; sleep 0.1; done
is_slow "$number" && bad "$victim still counts as slow after 30 s" || ok "$victim is quick again, and others know"
measure after && ok "every read is what was written last, afterwards" || bad "measuring: $(cat "$work/slow.out")"
check "down" 60 "$XTFS" down --data "$data"
finish
