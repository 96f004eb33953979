#!/usr/bin/env bash
# An OSD of four is lost for good under load: killed, removed, and its files have three copies again by themselves. Full size: as fast as 60 % of what
# the disk copies, and reads and synced writes go on nearly as quickly as before (p99 at most twice).
#   FILES, KIB   how many files, and how long each of them is
#   SECONDS_BEFORE   how long the load runs before anything happens
# All OSDs lie on one disk: what is copied is read from it and written to it, as by `cp`. So what a copy by hand does, in pieces of 1 MiB past the kernel's
# cache and synced at the end, is called the disk's speed here; and what `cp` does, through the cache, is told beside it.
. "$(dirname "$0")/instance.sh"
files=${FILES:-$(sized 150 12)}
kib=${KIB:-$(sized 16384 1024)}
before=${SECONDS_BEFORE:-$(sized 15 3)}
export here files kib

# speed COMMAND: MiB/s of a copy of $work/from.
speed() {
  local begun mib
  mib=$(sized 1024 64)
  rm -f "$work/to"
  begun=$(now_ms)
  "$@" || return 1
  echo $((mib * 1000 / ($(now_ms) - begun + 1)))
}
by_hand() { dd if="$work/from" of="$work/to" bs=1M iflag=direct oflag=direct conv=fsync status=none; }
by_cp() { cp "$work/from" "$work/to" && sync "$work/to"; }
dd if=/dev/urandom of="$work/from" bs=1M count="$(sized 1024 64)" oflag=direct conv=fsync status=none
disk=$(speed by_hand)
disk_cp=$(speed by_cp)

must_up --separate --dirs 1 --mrcs 1 --osds 4 --replicas 3 --no-exec
dirs=$(jq -r .dir "$work/up.json" | sed 's,tcp://,,g')
export dirs
status() { "$XTFS" status --dir "$dirs" --json 2>/dev/null | jq -c .replication; }
in_sync() { status | jq -e .in_sync >/dev/null; }
# until_in_sync SECONDS: says when that began, Unix milliseconds. Who leads changes hands meanwhile: what is said five times is believed.
until_in_sync() {
  local since times=0 end=$((SECONDS + $1))
  while [ $SECONDS -lt $end ]; do
    if in_sync; then
      [ $times = 0 ] && since=$(now_ms)
      times=$((times + 1))
      [ $times = 5 ] && { echo "$since"; return 0; }
    else
      times=0
    fi
    # Asking takes a fifth of a core when it is done ten times a second: that would be measured too.
    sleep 0.4
  done
  return 1
}
# lists FILTER: how many files have replica lists that fit.
lists() {
  local n count=0
  for n in $(seq 0 $((files - 1))); do
    "$XTFS" replica ls "$mnt/r/f$n" --json | jq -e --argjson o "$number" "$1" >/dev/null && count=$((count + 1))
  done
  echo $count
}
part() { python3 "$here/rereplication.py" sum "$work/load" "$1" "$2"; }

check "make $files files of $kib KiB" 900 python3 "$here/rereplication.py" make "$mnt/r" "$files" "$kib"
until_in_sync 60 >/dev/null && ok "all in sync" || bad "not in sync before it begins: $(status)"
victim=osd-1
addr=$("$XTFS" ps --data "$data" --json | jq -r --arg n $victim '.[] | select(.name == $n) | .addr')
number=$("$XTFS" osd ls --dir "$dirs" --json | jq -r --arg a "$addr" '.[] | select(.addr == $a) | .osd')
concerned=$(lists 'any(.replicas[]; .osd == $o)')
python3 "$here/rereplication.py" load "$mnt/r" "$files" "$kib" "$work/load" >"$work/load.out" 2>&1 </dev/null &
load=$!
# The first seconds are warming up: files are opened, columns are touched.
sleep 2
began=$(now_ms)
sleep "$before"
killed=$(now_ms)
murder $victim
# What its death alone costs is not what is measured here.
sleep "$(sized 5 2)"
moved=$(status | jq .resync_bytes)
removed=$(now_ms)
check "osd remove" 20 "$XTFS" osd remove "$number" --yes --dir "$dirs"
whole=$(until_in_sync 300) && ok "all in sync again" || bad "not in sync 300 s after the removal: $(status)"
whole=${whole:-$(now_ms)}
moved=$(($(status | jq .resync_bytes) - moved))
touch "$work/load.stop"
wait $load
loaded=$?
left=$(lists 'any(.replicas[]; .osd == $o)')
three=$(lists '(.replicas | length) == 3 and all(.replicas[]; .in_sync)')
[ $loaded = 0 ] && ok "every read and write under load: $(cat "$work/load.out")" || bad "under load: $(tail -n 3 "$work/load.out")"
[ "$left" = 0 ] && ok "\`xtfs status\` said so when no list named the lost OSD any more" || bad "in sync, says \`xtfs status\`, and $left files name the lost OSD"
[ "$three" = "$files" ] && ok "three copies of each file" || bad "$three of $files files have three copies"
disk_after=$(speed by_hand)
[ "$disk_after" -gt "$disk" ] && disk=$disk_after

took=$((whole - removed))
mib=$((concerned * kib / 1024))
rate=$((mib * 1000 / took))
echo "     $concerned of $files files had a copy there: $mib MiB in $took ms ($((moved >> 20)) MiB moved) = $rate MiB/s;" \
  "the disk copies $disk MiB/s past the cache, $disk_cp MiB/s by cp"
part "$began" "$killed" | sed 's/^/     before (count, median, p99, worst in us): /'
part "$killed" "$removed" | sed 's/^/     killed, not removed yet:                  /'
part "$removed" "$whole" | sed 's/^/     while it is copied:                       /'
[ $((moved >> 20)) -ge "$mib" ] && ok "$((moved >> 20)) MiB were moved" || bad "only $((moved >> 20)) of $mib MiB were moved"
if [ "$QUICK" != 1 ]; then
  [ $((rate * 100)) -ge $((disk * 60)) ] && ok "$rate MiB/s, at least 60 % of $disk" || bad "$rate MiB/s, less than 60 % of $disk"
  for kind in read write; do
    p99() { part "$1" "$2" | awk -v k=$kind '$1 == k { print $4 }'; }
    was=$(p99 "$began" "$killed") is=$(p99 "$removed" "$whole")
    [ "$is" -le $((2 * was)) ] && ok "p99 of $kind: $is us, $was us before" || bad "p99 of $kind: $is us, $was us before"
  done
fi
rm -f "$work/from" "$work/to"
check "every byte is what was written" 900 python3 "$here/rereplication.py" check "$mnt/r" "$files" "$kib" "$work/load.written"
check "scrub" 300 "$XTFS" scrub "xtfs://$dirs/$(jq -r .volume "$work/up.json")"
check "down" 60 "$XTFS" down --data "$data"
finish
