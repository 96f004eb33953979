#!/usr/bin/env bash
# `xtfs chaos` with members that make place, slow and full disks and clocks that jump, under names, data, jobs, fsx and fio: each of
# them happened, can be seen in the report, and nothing was lost.
. "$(dirname "$0")/instance.sh"
# The short run has all four kinds with this seed, and no OSD that makes place, which takes long: those of the long run do.
seconds=$(sized 180 20)
kinds=members,slow,full,clock
[ "$(id -u)" = 0 ] || kinds=slow,full,clock
export kinds

timeout -k 5 $((seconds * 2 + 300)) "$XTFS" chaos --seed "${SEED:-27}" --out "$work/run" --duration "$seconds" --nemesis "$kinds" >"$work/run.txt" 2>"$work/run.err" </dev/null
status=$?
# What a run that went wrong has left running.
[ -d "$work/run/data" ] && data=$work/run/data remember
[ $status = 0 ] && ok "$seconds s of $kinds" || bad "$seconds s of $kinds: $(grep -hE '^FAIL|^xtfs' "$work/run.txt" "$work/run.err")"
sed -n '/^AT/,/^$/p' "$work/run.txt" | sed 's/^/     /'
check_sh "each of them happened" 5 'for kind in ${kinds//,/ }; do jq -e --arg k "$kind" "any(.faults[]; .nemesis == \$k and (.failures | length) == 0)" "$work/run/report.json" >/dev/null || { echo "no $kind"; exit 1; }; done'
check_sh "and has its colour in the picture" 5 'for colour in b45309 be185d 7c8a00; do grep -q "$colour" "$work/run/report.html" || exit 1; done'
check_sh "no room was noticed by who writes" 5 'jq -e "any(.loads[]; .no_room > 0)" "$work/run/report.json"'
check_sh "jobs ran once each" 5 'jq -e ".checks[] | select(.name == \"every job once\") | .passed" "$work/run/report.json"'
check_sh "the loads did something each" 5 'jq -e "(.loads | length) >= 4 and all(.loads[]; .operations > 0)" "$work/run/report.json"'

must_up --separate --dirs 1 --mrcs 1 --osds 3 --replicas 3 --no-exec
check_sh "without the variable nothing can make a disk full" 20 'echo full >"$data/osd-0/fault-disk"; echo full >"$data/osd-1/fault-disk"; sleep 0.5; echo some >"$mnt/file" && sync "$mnt/file" && rm "$data"/osd-?/fault-disk'
check_sh "an instance that runs without hooks is refused with a remedy" 10 '"$XTFS" chaos --data "$data" --nemesis full --out "$work/no" 2>"$work/refused"; [ $? = 2 ] && grep -q "leave --data out" "$work/refused"'
check "down" 60 "$XTFS" down --data "$data"
finish
