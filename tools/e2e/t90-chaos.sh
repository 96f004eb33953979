#!/usr/bin/env bash
# `xtfs chaos`: faults under load with every checker passed, an instance that is given, and proof that the checkers can fail.
. "$(dirname "$0")/instance.sh"
seconds=$(sized 60 15)
kinds=$(sized kill,pause,corrupt,restart,pair kill,pause)

# What `up` of the command under test started is ended by it; `sweep` ends what it left, by these pids.
watch_over() { data=$1 remember; }

chaos() {
  local out=$1
  shift
  timeout -k 5 $((seconds * 2 + 300)) "$XTFS" chaos --seed "${SEED:-1}" --out "$out" "$@" >"$out.txt" 2>"$out.err" </dev/null
  local status=$?
  watch_over "$out/data"
  return $status
}

chaos "$work/run" --duration "$seconds" --nemesis "$kinds" && ok "$seconds s of $kinds" || bad "$seconds s of $kinds: $(grep -hE '^FAIL|^xtfs' "$work/run.txt" "$work/run.err")"
sed -n '/^AT/,/^$/p' "$work/run.txt" | sed 's/^/     /'
faults=$(jq '.faults | length' "$work/run/report.json")
[ "${faults:-0}" -ge 2 ] && ok "$faults faults happened" || bad "only ${faults:-no} faults happened"
# Jobs always, fsx and fio where they are installed.
check_sh "names, data, still and jobs worked" 5 'jq -e "[.loads[].name] | contains([\"names\", \"data\", \"still\", \"jobs\"])" "$work/run/report.json"'
check_sh "each fault has the longest stall of each load" 5 'jq -e "(.loads | length) as \$n | all(.faults[]; (.longest_stall | length) == \$n)" "$work/run/report.json"'
check_sh "the report is one page with a picture" 5 'grep -q "<svg" "$work/run/report.html" && ! grep -qE "(src|href)=" "$work/run/report.html"'
check_sh "the instance is gone, as all was well" 5 '[ ! -e "$work/run/data" ]'

# All processes at once, files open, jobs running: who takes up the mount must not wait until the leases of the job service, which starts after it, run out.
chaos "$work/all" --duration 10 --nemesis restart --load coded,jobs && ok "kill -9 of all processes under jobs" || bad "kill -9 of all processes under jobs: $(grep -hE '^FAIL|^xtfs' "$work/all.txt" "$work/all.err")"
longest=$(jq '[.faults[].longest_stall[]] | max // 99 | . * 1000 | round' "$work/all/report.json")
[ "${longest:-99999}" -le 5500 ] && ok "the longest stall was $longest ms" || bad "the longest stall was $longest ms; limit 5500"
check_sh "erasure-coded files were coded in the end" 5 'jq -e ".checks[] | select(.name == \"all files coded\") | .passed" "$work/all/report.json"'

# Spoiled behind the checkers' back: each must say so, and nothing else may fail.
spoiled() {
  chaos "$work/$1" --duration 8 --nemesis kill --sabotage "$1" --load
  local status=$?
  local failing
  failing=$(jq -r '[.checks[] | select(.passed | not) | .name] | join(",")' "$work/$1/report.json")
  [ $status = 1 ] && [ "$failing" = "$2" ] && ok "sabotage $1 is noticed: $2" || bad "sabotage $1: status $status, failing: $failing"
  rm -rf --one-file-system "${work:?}/$1/data"
}
spoiled lose "nothing acknowledged lost"
spoiled overwrite "no wrong byte"

must_up --separate --dirs 3 --mrcs 3 --osds 4 --replicas 3 --no-exec
check "an instance that runs is used" 200 "$XTFS" chaos --seed 5 --duration 8 --nemesis pause --data "$data" --out "$work/given"
check_sh "and left running" 20 '"$XTFS" ps --data "$data" --json | jq -e "all(.[]; .pid != null)"'
stages=$(readlink "/proc/$(pid_of mount-0)"/fd/* | grep '^/dev/shm/xtfs-')
check "down" 60 "$XTFS" down --data "$data"
# What a stopped instance leaves for its successor, which does not come.
# shellcheck disable=SC2086
rm -f $stages
check_sh "an option that makes no sense is refused with a remedy" 10 '"$XTFS" chaos --duration 1 2>"$work/refused"; [ $? = 2 ] && grep -q "at least" "$work/refused"'
finish
