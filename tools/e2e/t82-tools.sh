#!/usr/bin/env bash
# Tools around a cluster: `xtfs bench`.
. "$(dirname "$0")/instance.sh"
must_up --separate --osds 2 --no-exec

# bench: the same on a mount and on a local disk.
cat >"$work/sound.jq" <<'J'
(.results | length) == 12 and all(.results[]; .ops > 0 and .seconds > 0 and .p50 <= .p99 and .p99 <= .max)
and (.results | map("\(.test) \(.threads)")) == (["sequential_write", "sequential_read", "random_read", "random_write", "create", "stat", "rename", "unlink"] | map(. + " 1")) + (["create", "stat", "rename", "unlink"] | map(. + " 8"))
J
check_sh "bench of a mount: every figure is there" 60 '"$XTFS" bench "$mnt" --size 16M --time "$(( QUICK == 1 ? 3 : 10 ))" --json | jq -e -f "$work/sound.jq"'
check_sh "nothing of it is left" 20 '[ -z "$(find "$mnt" -mindepth 1 -not -path "$mnt/spool*" -not -path "$mnt/.xtfs*")" ]'
check_sh "bench of a local directory: a table without colours in a pipe" 60 'mkdir "$work/local" && "$XTFS" bench "$work/local" --size 8M --time 2 >"$work/table" && grep -q "^sequential write  *1 .*MiB/s" "$work/table" && ! grep -q "$(printf "\033")" "$work/table" && [ "$(wc -l <"$work/table")" = 14 ] && [ -z "$(ls -A "$work/local")" ]'
check_sh "with colours on a terminal" 60 'command -v script >/dev/null || exit 0; script -qec "\"$XTFS\" bench \"$work/local\" --size 4M --time 1" /dev/null >"$work/table" && grep -q "$(printf "\033\\[36m")sequential write" "$work/table"'
check_sh "an interrupted bench leaves nothing" 60 '"$XTFS" bench "$mnt" --time 60 2>"$work/err" & pid=$!; until ls -d "$mnt"/.xtfs-bench.*/names-8 >/dev/null 2>&1 || ls -d "$mnt"/.xtfs-bench.* >/dev/null 2>&1; do sleep 0.1; done; kill -INT $pid; wait $pid; [ $? = 130 ] && grep -q interrupted "$work/err" && ! ls -d "$mnt"/.xtfs-bench.* 2>/dev/null'
check_sh "more than there is room for is refused" 20 'out=$("$XTFS" bench "$mnt" --size 900T 2>&1); [ $? = 1 ] && grep -q "smaller --size" <<<"$out"'

finish
