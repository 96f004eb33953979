#!/usr/bin/env bash
# Damage all over the disks, each at one copy of a block (full size: 10 GiB stored, 400 blocks): a scrub finds all of it and repairs it, the next one finds nothing.
. "$(dirname "$0")/instance.sh"
must_up --separate --dirs 1 --mrcs 1 --osds 3 --replicas 3 --no-exec
export here work
url=xtfs://$(jq -r .dir "$work/up.json" | sed 's,tcp://,,g')/$(jq -r .volume "$work/up.json")
mib=$(sized 3456 128) faults=$(sized 400 60)
export url mib faults data

# What the OSDs have found and mended since they started, by whichever way.
counted() {
  "$XTFS" ps --data "$data" --json | jq -r '.[] | select(.role == "osd") | .http' | while read -r http; do
    curl -sf "http://${http#http://}/api/v1/status" | jq ".service.$1"
  done | awk '{ sum += $1 } END { print sum }'
}
check "$mib MiB, three copies" 900 python3 "$here/scrub.py" make "$mnt/s" "$mib"
sleep 2
start=$(date +%s%N)
check "a scrub of sound disks" 900 "$XTFS" scrub "$url" --json
echo "     $((mib * 3)) MiB in $((($(date +%s%N) - start) / 1000000)) ms"
python3 "$here/scrub.py" harm 7 "$faults" "$data"/osd-{0,1,2} >"$work/harm.json" 2>"$work/harm.err" && ok "damage: $(cat "$work/harm.json"); $(cat "$work/harm.err")" ||
  bad "damaging: $(tail -n 1 "$work/harm.err")"
check_sh "scrub" 900 '"$XTFS" scrub "$url" --json >"$work/scrub.json"'
found=$(counted damage_found) mended=$(counted damage_mended)
[ "$found" = "$faults" ] && ok "all $faults damaged blocks were found" || bad "$found of $faults damaged blocks were found: $(cat "$work/scrub.json")"
[ "$mended" = "$faults" ] && ok "and all were mended" || bad "$mended of $faults were mended"
check_sh "a second scrub finds nothing" 900 '"$XTFS" scrub "$url" --json >"$work/scrub.json"; jq -e "[.osds[] | .damaged + .left] | add == 0" "$work/scrub.json"'
check "every byte is what was written" 900 python3 "$here/scrub.py" check "$mnt/s" "$mib"
check "down" 60 "$XTFS" down --data "$data"
finish
