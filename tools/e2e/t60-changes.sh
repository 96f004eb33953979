#!/usr/bin/env bash
# The change stream, recursive usage and find, on a replicated cluster; the MRC leader is killed while somebody watches.
. "$(dirname "$0")/instance.sh"
must_up --separate --mrcs 3 --no-exec
mkdir -p "$mnt/w/deep/er" "$mnt/other"

"$XTFS" watch "$mnt/w" >"$work/watched" 2>"$work/watch.err" &
watcher=$!
echo $watcher >>"$work/pids"
sleep 1
touch "$mnt/w/deep/er/one" && mv "$mnt/w/deep/er/one" "$mnt/w/two" && chmod 600 "$mnt/w/two" && echo data >"$mnt/other/unseen"
mv "$mnt/w/two" "$mnt/other/two" && rmdir "$mnt/w/deep/er"

# seen COUNT JQ: so many lines match.
seen() { for _ in $(seq 100); do [ "$(jq -c "select($2)" "$work/watched" | wc -l)" -ge "$1" ] && return 0; sleep 0.1; done; cat "$work/watched" "$work/watch.err"; return 1; }
export -f seen
check_sh "a new file is told with its path" 15 'seen 1 ".event == \"created\" and .name == \"one\" and .type == \"file\""'
check_sh "a rename is told with both ends" 15 'seen 1 ".event == \"renamed\" and .name == \"one\" and .new_path == \"/w/two\" and .from_inside and .to_inside"'
check_sh "a chmod is told" 15 'seen 1 ".event == \"attributes\""'
check_sh "a rename out of the directory says so" 15 'seen 1 ".event == \"renamed\" and .from_inside and (.to_inside | not)"'
check_sh "a removed directory is told" 15 'seen 1 ".event == \"removed\" and .name == \"er\" and .type == \"directory\""'
check_sh "what happens elsewhere is not" 15 '! grep -q unseen "$work/watched"'

# Names are made while the leader is killed; the watcher sees each of them.
count=$(sized 400 60)
export count
murder "$(leader_of mrc)"
check_sh "$count files are made while the MRC leader is dead" 120 'for n in $(seq "$count"); do : >"$mnt/w/f$n" || exit 1; done'
check_sh "the watcher missed none of them" 60 'for _ in $(seq 300); do n=$(jq -r "select(.event == \"created\") | .name" "$work/watched" | grep "^f[0-9]" | sort -u | wc -l); [ "$n" = "$count" ] && exit 0; sleep 0.1; done; echo "$n of $count"; exit 1'
check_sh "cursors only grow" 15 'jq -r .cursor "$work/watched" | sort -n -c'
cursor=$(jq -r 'select(.name == "one") | .cursor' "$work/watched" | head -n 1)
export cursor
check_sh "--from goes on where it left" 60 '"$XTFS" watch "$mnt/w" --from "$cursor" --idle 2 >"$work/again" && sed "0,/\"cursor\":$cursor,/d" "$work/watched" | jq -c "{cursor, event, ino}" | diff - <(jq -c "{cursor, event, ino}" "$work/again")'
kill $watcher 2>/dev/null

# Usage, against counting.
mkdir -p "$mnt/u/a/b/c"
for n in $(seq 30); do head -c $((n * 1000)) /dev/zero >"$mnt/u/a/b/f$n"; done
ln "$mnt/u/a/b/f1" "$mnt/u/a/b/second"
sizes() { "$XTFS" du --json "$1" | jq -r '"\(.bytes) \(.files) \(.directories)"'; }
counted() { echo "$(find "$1" -mindepth 1 ! -type d -printf '%i %s\n' | sort -u | awk '{s += $2; n++} END {print s + 0, n + 0}') $(find "$1" -mindepth 1 -type d | wc -l)"; }
agree() { for _ in $(seq 30); do [ "$(sizes "$1")" = "$(counted "$1")" ] && return 0; sleep 0.1; done; echo "du $(sizes "$1"), counted $(counted "$1")"; return 1; }
export -f sizes counted agree
check_sh "du agrees with counting" 60 'for d in u u/a u/a/b u/a/b/c; do agree "$mnt/$d" || exit 1; done'
check_sh "also after a move, a removal and a truncation" 60 'mv "$mnt/u/a/b" "$mnt/other/b" && rm "$mnt/other/b/f2" && truncate -s 5 "$mnt/other/b/f3" && for d in u u/a other other/b; do agree "$mnt/$d" || exit 1; done'
check_sh "a directory of nothing has nothing" 60 'rm -r "$mnt/other/b" && agree "$mnt/u" && agree "$mnt/other"'

# Find.
printf '%05000d' 0 >"$mnt/u/large.log" && touch "$mnt/u/small.log" "$mnt/u/a/x.txt" && setfattr -n user.project -v blue "$mnt/u/a/x.txt"
check_sh "find by name and size" 30 '[ "$("$XTFS" find "$mnt/u" "name == \"*.log\" && size > 1K")" = /u/large.log ]'
check_sh "find by attribute" 30 '[ "$("$XTFS" find "$mnt" "user.project == \"b*\" && mtime > now-1h")" = /u/a/x.txt ]'
check_sh "a wrong query says where" 30 'out=$("$XTFS" find "$mnt" "size >" 2>&1); [ $? = 2 ] && grep -q "character 7" <<<"$out"'
finish
