#!/usr/bin/env bash
# Tools around a cluster: `xtfs bench`, `xtfs warmup`, `xtfs osd weight`, `xtfs top`, `xtfs stats`, `xtfs profile`, `xtfs debug bundle`.
. "$(dirname "$0")/instance.sh"
must_up --separate --osds 2 --no-exec
XTFS_DIR=$(jq -r '.dir | if type == "array" then join(",") else . end' "$work/up.json")
export XTFS_DIR

# bench: the same on a mount and on a local disk.
cat >"$work/sound.jq" <<'J'
(.results | length) == 12 and all(.results[]; .ops > 0 and .seconds > 0 and .p50 <= .p99 and .p99 <= .max)
and (.results | map("\(.test) \(.threads)")) == (["sequential_write", "sequential_read", "random_read", "random_write", "create", "stat", "rename", "unlink"] | map(. + " 1")) + (["create", "stat", "rename", "unlink"] | map(. + " 8"))
J
check_sh "bench of a mount: every figure is there" 60 '"$XTFS" bench "$mnt" --size 16M --time "$(( QUICK == 1 ? 3 : 10 ))" --json | jq -e -f "$work/sound.jq"'
check_sh "nothing of it is left" 20 '[ -z "$(find "$mnt" -mindepth 1 -not -path "$mnt/spool*" -not -path "$mnt/.xtfs*")" ]'
check_sh "bench of a local directory: a table without colours in a pipe" 60 'mkdir "$work/local" && "$XTFS" bench "$work/local" --size 8M --time 2 >"$work/table" && grep -q "^sequential write  *1 .*[MG]iB/s" "$work/table" && ! grep -q "$(printf "\033")" "$work/table" && [ "$(wc -l <"$work/table")" = 14 ] && [ -z "$(ls -A "$work/local")" ]'
check_sh "with colours on a terminal" 60 'command -v script >/dev/null || exit 0; script -qec "\"$XTFS\" bench \"$work/local\" --size 4M --time 1" /dev/null >"$work/table" && grep -q "$(printf "\033\\[36m")sequential write" "$work/table"'
check_sh "an interrupted bench leaves nothing" 60 '"$XTFS" bench "$mnt" --time 60 2>"$work/err" & pid=$!; until ls -d "$mnt"/.xtfs-bench.*/names-8 >/dev/null 2>&1 || ls -d "$mnt"/.xtfs-bench.* >/dev/null 2>&1; do sleep 0.1; done; kill -INT $pid; wait $pid; [ $? = 130 ] && grep -q interrupted "$work/err" && ! ls -d "$mnt"/.xtfs-bench.* 2>/dev/null'
check_sh "more than there is room for is refused" 20 'out=$("$XTFS" bench "$mnt" --size 900T 2>&1); [ $? = 1 ] && grep -q "smaller --size" <<<"$out"'

# warmup: everything is read at the OSDs, once.
url=xtfs://$XTFS_DIR/$(jq -r .volume "$work/up.json")
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

# weight: shares of new files.
# shares DIR COUNT: makes files, prints how many lie on each OSD, as "osd count" lines.
shares() { mkdir -p "$1" && for n in $(seq "$2"); do : >"$1/$n" || return 1; "$XTFS" info "$1/$n" --json | jq -r '.. | .osd? // empty'; done | sort | uniq -c | awk '{ print $2, $1 }'; }
export -f shares
export weight='def of(o): map(select(.osd == o))[0].weight;'
check_sh "everybody weighs 100 at first" 20 '"$XTFS" osd ls --json | jq -e "all(.weight == 100)" && "$XTFS" osd ls | grep -q WEIGHT'
check_sh "--dry-run of a weight changes nothing" 20 '"$XTFS" osd weight 1 0 --dry-run --json | jq -e ".dry_run and .was == 100 and .weight == 0" && "$XTFS" osd ls --json | jq -e "all(.weight == 100)"'
check_sh "who weighs nothing gets no new file" 60 '"$XTFS" osd weight 1 0 && sleep 1 && shares "$mnt/weight0" 12 >"$work/shares" && ! grep -q "^1 " "$work/shares" && grep -q "^2 12" "$work/shares" || { cat "$work/shares"; exit 1; }'
check_sh "the last one that weighs something is warned of, files are refused" 60 '"$XTFS" osd weight 2 0 | grep -q "no file can be made" && sleep 1 && out=$( { : >"$mnt/refused"; } 2>&1 ); [ $? != 0 ] && grep -q "No space" <<<"$out" && "$XTFS" osd weight 2 20 && sleep 1 && : >"$mnt/accepted"'
check_sh "a weight outlives the DIR and the OSD" 60 '"$XTFS" restart dir-0 --data "$data" && "$XTFS" restart osd-0 --data "$data" && "$XTFS" osd ls --json | jq -e "$weight of(1) == 0 and of(2) == 20"'
check_sh "100 against 20: five of six" 120 '"$XTFS" osd weight 1 100 && sleep 1 && shares "$mnt/weight" 60 >"$work/shares" && awk "{ n[\$1] = \$2 } END { exit !(n[1] >= 38 && n[1] <= 58 && n[1] + n[2] == 60) }" "$work/shares" || { cat "$work/shares"; exit 1; }'
check_sh "a weight that does not exist, an OSD that does not exist" 20 '"$XTFS" osd weight 1 1001 2>/dev/null; [ $? = 2 ] && out=$("$XTFS" osd weight 77 5 2>&1); [ $? = 1 ] && grep -q "osd ls" <<<"$out"'

# top and stats: what was done is counted where it was done.
export sums='def of(r): [.services[] | select(.role == r)];'
check_sh "stats count what a mount and its OSDs did" 60 '"$XTFS" stats --json >"$work/before" && head -c 8388608 /dev/urandom >"$mnt/counted" && sync "$mnt/counted" && mkdir "$mnt"/counted.{1,2,3} && "$XTFS" stats --json >"$work/after" &&
  jq -es "$sums (.[1] | [of(\"osd\")[].written_bytes] | add) - (.[0] | [of(\"osd\")[].written_bytes] | add) >= 8388608" "$work/before" "$work/after" &&
  jq -es "$sums (.[1] | of(\"mount\")[0].written_bytes) - (.[0] | of(\"mount\")[0].written_bytes) == 8388608" "$work/before" "$work/after" &&
  jq -es "map(.calls[] | select(.role == \"mount\" and .call == \"mkdir\") | .calls) | .[-1] - (if length > 1 then .[0] else 0 end) == 3" "$work/before" "$work/after" &&
  jq -e "any(.calls[]; .role == \"mrc\" and .call == \"MkDir\" and .calls >= 3 and .mean > 0) and any(.volumes[]; .written_bytes >= 8388608)" "$work/after"'
check_sh "profile adds up what a mount is asked" 30 '"$XTFS" profile "$mnt" --seconds 2 --json >"$work/profile" & sleep 0.7; mkdir "$mnt"/profiled.{1,2,3}; stat "$mnt/profiled.none" 2>/dev/null; wait
  jq -e "([.rows[] | select(.key == \"mkdir\") | .calls] == [3]) and any(.rows[]; .key == \"lookup\" and .calls >= 4) and .calls >= .calls_seen" "$work/profile" &&
  cp "$mnt/.xtfs/accesslog" "$work/log" && "$XTFS" profile "$work/log" --by uid --json | jq -e ".rows[0].calls > 2" && ! "$XTFS" profile /etc/hosts 2>/dev/null'
# The one that has the file: the other one need not have written anything since it was restarted.
check_sh "stats of one service" 20 'osd=$("$XTFS" info "$mnt/counted" --json | jq -r "[.. | .osd? // empty][0]") && out=$("$XTFS" stats "osd#$osd") && grep -q "^osd Write" <<<"$out" || { echo "${out-}"; exit 1; }; out=$("$XTFS" stats nobody 2>&1); [ $? = 1 ] && grep -q "one of: dir-0" <<<"$out"'
check_sh "top --once shows rates under load" 60 'head -c 40000000 /dev/zero | dd of="$mnt/load" bs=100k iflag=fullblock status=none & (for n in $(seq 100); do stat "$mnt/none" >/dev/null 2>&1; sleep 0.01; done) & "$XTFS" top --once --interval 1.5 --json >"$work/top"; wait; jq -e "$sums .interval >= 1.5 and (.time | test(\"Z$\")) and of(\"mount\")[0].calls_per_second > 1 and (of(\"osd\") | length == 2)" "$work/top" || { cat "$work/top"; exit 1; }'
check_sh "top as a stream of JSON lines, and as text" 30 '[ "$("$XTFS" top --count 3 -i 0.2 --json | jq -c .interval | wc -l)" = 3 ] && "$XTFS" top --once -i 0.2 >"$work/table" && grep -q "^SERVICE *CALLS/S" "$work/table" && ! grep -q "$(printf "\033")" "$work/table"'
# number_of NAME: under which the map has an OSD.
number_of() { "$XTFS" osd ls --json | jq -r --arg u "$("$XTFS" ps --data "$data" --json | jq -r --arg n "$1" '.[] | select(.name == $n) | .uuid')" '.[] | select(.uuid == $u) | .osd'; }
dead=$(number_of osd-1)
alive=$(number_of osd-0)
export dead alive
murder osd-1
check_sh "a service that is dead is shown as such" 30 '"$XTFS" stats >"$work/table" && grep -q "^osd#$dead *no answer" "$work/table" && "$XTFS" stats --json | jq -e "any(.services[]; .name == \"osd#$dead\" and .error != null)"'

# bundle: also while something is dead.
printf 'token = "abcdef-secret"\nuuid = "u"\n' >"$data/etc/extra.toml"; echo 'INFO joined token=abcdef-secret at host' >"$data/log/extra.log"
check_sh "a bundle has status, metrics, configurations and logs" 60 'until "$XTFS" osd ls --json | jq -e "any(.state == \"down\")" >/dev/null; do sleep 0.1; done; unset XTFS_DIR; cd "$work" && "$XTFS" debug bundle --data "$data" -o b.tgz --json >bundle.json && mkdir un && tar xzf b.tgz -C un --strip-components=1 && cd un && jq -e ".health == \"warn\"" cluster/status.json && jq -e ".healthy == false" cluster/doctor.json && grep -q xtfs_rpc_calls_total services/mrc-0/metrics.txt && jq -e ".name == \"osd-0\"" "services/osd-$alive/status.json" && [ -s instance/etc/osd-0.toml ] && [ -s instance/log/mrc-0.log ] && jq -e "length > 4" instance/ps.json && [ -s system/loadavg ] && jq -e ".missing | any(.what == \"metrics of osd#$dead\")" manifest.json && jq -e ".missing | length > 0" ../bundle.json'
check_sh "and no secrets; only the owner may read it" 20 'cd "$work" && ! grep -raq abcdef-secret un && grep -q "token=<removed>" un/instance/log/extra.log && grep -q "<removed>" un/instance/etc/extra.toml && [ "$(stat -c %a b.tgz)" = 600 ]'
check_sh "nothing is overwritten" 20 'unset XTFS_DIR; out=$("$XTFS" debug bundle --data "$data" -o "$work/b.tgz" 2>&1); [ $? = 1 ] && grep -q "another name" <<<"$out"'
murder osd-0; murder mrc-0; murder dir-0
check_sh "a bundle of an instance that is dead" 60 'unset XTFS_DIR; "$XTFS" debug bundle --data "$data" -o "$work/dead.tgz" >"$work/told" && grep -q "left out: status of the cluster" "$work/told" && tar tzf "$work/dead.tgz" >"$work/list" && grep -q instance/log/mrc-0.log "$work/list"'
check_sh "without an instance and without --dir" 20 'unset XTFS_DIR; cd "$work" && out=$("$XTFS" debug bundle --data "$work/none" 2>&1); [ $? = 2 ] && grep -q "which cluster" <<<"$out" && ! ls xtfs-bundle-* 2>/dev/null'

finish
