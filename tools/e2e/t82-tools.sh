#!/usr/bin/env bash
# Tools around a cluster: `xtfs bench`, `xtfs warmup`.
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

# warmup: everything is read at the OSDs, once.
url=$(jq -r '"xtfs://" + (.dir | if type == "array" then join(",") else . end) + "/" + .volume' "$work/up.json")
export url
# reads: how many reads the OSDs have answered.
reads() { local sum=0 n http; while read -r http; do n=$(curl -s "$http/metrics" | awk '/^xtfs_rpc_calls_total\{.*method="Read".*outcome="ok"/ { n += $2 } END { print n + 0 }'); sum=$((sum + n)); done < <("$XTFS" ps --data "$data" --json | jq -r '.[] | select(.role == "osd") | "http://" + (.http | ltrimstr("http://"))'); echo "$sum"; }
export -f reads
mkdir -p "$mnt/w/deep/er" && for n in 1 2 3 4 5; do head -c "$((n * 700000))" /dev/urandom >"$mnt/w/deep/f$n"; done
head -c 20000000 /dev/urandom >"$mnt/w/deep/er/big"; truncate -s 10G "$mnt/w/sparse"; printf x | dd of="$mnt/w/sparse" bs=1 seek=5G conv=notrunc status=none; ln -s sparse "$mnt/w/link"; : >"$mnt/w/empty"; sync "$mnt"/w/sparse
check_sh "warmup of a tree reads all data, and no holes" 60 'before=$(reads); "$XTFS" warmup "$mnt/w" --json >"$work/warm" && jq -e ".files == 8 and .failed == 0 and .bytes >= 30500000 and .bytes < 32000000" "$work/warm" && after=$(reads) && [ $((after - before)) -ge 30 ] || { cat "$work/warm"; echo "$before $after"; exit 1; }'
check_sh "warmup of one file, by URL" 30 'out=$("$XTFS" warmup "$url/w/deep/er/big" --jobs 1) && grep -q "^1 file(s), 19.1 MiB read" <<<"$out" || { echo "$out"; exit 1; }'
check_sh "warmup of something that is not there" 30 'out=$("$XTFS" warmup "$url/w/none" 2>&1); [ $? = 1 ] && grep -q "warming up" <<<"$out"'
[ "$(id -u)" = 0 ] && check_sh "what may not be read is said, the rest is read" 30 'chmod 600 "$mnt/w/deep/f1"; out=$(setpriv --reuid 4001 --regid 4001 --clear-groups "$XTFS" warmup "$mnt/w" 2>&1); [ $? = 1 ] && grep -q "reading .*/deep/f1: " <<<"$out" && grep -q "^7 file(s), .*, 1 failed" <<<"$out" || { echo "$out"; exit 1; }'
check_sh "a bar on a terminal" 30 'command -v script >/dev/null || exit 0; script -qec "\"$XTFS\" warmup \"$mnt/w\"" /dev/null >"$work/bar" && grep -q "%" "$work/bar"'

finish
