#!/usr/bin/env bash
# `xtfs chaos` with partitions: servers in network namespaces, packets dropped, every checker passed, no long stall.
. "$(dirname "$0")/instance.sh"
if [ "$(id -u)" != 0 ] || ! command -v ip >/dev/null || ! command -v tc >/dev/null; then
  check_sh "without root partitions are refused with a remedy" 10 '[ "$(id -u)" = 0 ] || { "$XTFS" chaos --nemesis partition --out "$work/no" 2>"$work/refused"; [ $? = 2 ] && grep -q "root" "$work/refused"; }'
  echo "skip partitions: they need root, ip and tc"
  finish
fi
seconds=$(sized 60 20)
kinds=$(sized partition,one-way,host partition,host)

timeout -k 5 $((seconds * 2 + 300)) "$XTFS" chaos --seed "${SEED:-1}" --out "$work/run" --duration "$seconds" --nemesis "$kinds" >"$work/run.txt" 2>"$work/run.err" </dev/null
status=$?
[ $status = 0 ] && ok "$seconds s of $kinds" || bad "$seconds s of $kinds: $(grep -hE '^FAIL|^xtfs' "$work/run.txt" "$work/run.err")"
sed -n '/^AT/,/^$/p' "$work/run.txt" | sed 's/^/     /'
check_sh "at least 2 partitions happened" 5 'jq -e ".faults | length >= 2" "$work/run/report.json"'
check_sh "no network namespace is left" 5 '! ls /run/netns 2>/dev/null | grep -E "^xtfs-[0-9]+-" | sed -E "s/^xtfs-([0-9]+)-.*/\1/" | sort -u | while read -r pid; do [ -e "/proc/$pid" ] || echo "$pid"; done | grep -q .'
check_sh "an instance that runs already is refused with a remedy" 10 '"$XTFS" chaos --data "$work/run" --nemesis partition --out "$work/no" 2>"$work/refused"; [ $? = 2 ] && grep -q "leave --data out" "$work/refused"'
finish
