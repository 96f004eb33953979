#!/usr/bin/env bash
# fsck, gc, dump and load on real processes: while files are made and removed, and after all metadata was lost.
. "$(dirname "$0")/instance.sh"
must_up --separate --no-exec
count=$(sized 400 80)
export count
mkdir -p "$mnt/t/deep"
# Every other one is too large to be kept at the MRC.
for n in $(seq "$count"); do { echo "content $n"; [ $((n % 2)) = 0 ] || head -c 5000 /dev/zero; } >"$mnt/t/deep/f$n"; done
ln "$mnt/t/deep/f1" "$mnt/t/second" && ln -s deep/f2 "$mnt/t/link" && setfattr -n user.colour -v red "$mnt/t/deep/f3" && mkfifo "$mnt/t/fifo" && chmod 640 "$mnt/t/deep/f4"
setfacl -m u:1234:r "$mnt/t/deep/f5" 2>/dev/null
[ "$(id -u)" = 0 ] && "$XTFS" quota set "$mnt/t" --inodes 100000 >/dev/null
sync

if [ "$(id -u)" != 0 ]; then
  check_sh "fsck is root's" 30 'out=$("$XTFS" fsck "$mnt" 2>&1); [ $? = 1 ] && grep -q "only root" <<<"$out"'
  finish
fi

check_sh "fsck of a sound volume finds nothing" 60 'out=$("$XTFS" fsck "$mnt") && grep -q "everything fits" <<<"$out"'
(while [ ! -e "$work/enough" ]; do for n in 1 2 3 4 5; do echo x >"$mnt/t/busy$n"; mv "$mnt/t/busy$n" "$mnt/t/deep/busy$n"; rm "$mnt/t/deep/busy$n"; done; done) 2>/dev/null &
echo $! >>"$work/pids"
busy=$!
check_sh "nor while files come, move and go" 120 'for _ in 1 2 3 4 5; do "$XTFS" fsck "$mnt" --json | jq -e -s "length == 1 and .[0].found == 0 and .[0].rows > 100" || exit 1; done'
check_sh "--repair of a sound volume changes nothing" 60 '"$XTFS" fsck "$mnt" --repair --json | jq -e ".mended == 0 and .left == 0"'
touch "$work/enough"
wait $busy 2>/dev/null
check_sh "others may not" 30 '! setpriv --reuid 4001 --regid 4001 --clear-groups "$XTFS" fsck "$mnt" 2>/dev/null'

sleep 1
check_sh "gc finds nothing lost" 60 '"$XTFS" gc "$mnt" --older-than 0 --dry-run --json | jq -e ".lost_files == 0 and .unknown_files == 0 and .files >= $count / 2"'

# dump
check_sh "dump writes a file once" 60 '"$XTFS" dump "$mnt" "$work/dump" && ! "$XTFS" dump "$mnt" "$work/dump" 2>/dev/null && [ ! -e "$work/dump.partial" ]'
check_sh "it is JSON lines with every name" 30 'jq -e . "$work/dump" >/dev/null && [ "$(jq -r "select(.name and .in) | .name" "$work/dump" | grep -c "^f[0-9]")" = "$count" ]'
check_sh "dump to a pipe is the same but for its time" 60 '"$XTFS" dump "$mnt" | grep -v "xtfs_dump\|\"end\"" | diff -q - <(grep -v "xtfs_dump\|\"end\"" "$work/dump")'
check_sh "a damaged dump is refused with its line, before anything is loaded" 60 'sed "5s/\"uid\":0/\"uid\":1/" "$work/dump" >"$work/damaged"; out=$("$XTFS" load "$mnt" "$work/damaged" 2>&1); [ $? = 1 ] && grep -q "damaged: line" <<<"$out" || { echo "$out"; exit 1; }
  head -c -3 "$work/dump" | "$XTFS" load "$mnt" --dry-run 2>/dev/null && exit 1; "$XTFS" load "$mnt" "$work/dump" --dry-run'
check_sh "a volume with files is not loaded over" 60 'out=$("$XTFS" load "$mnt" "$work/dump" 2>&1); [ $? = 1 ] && grep -q "load into an empty one" <<<"$out" || { echo "$out"; exit 1; }'
tree() { (cd "$1" && find . -mindepth 1 -path ./spool -prune -o -printf '%P %y %m %U %G %n %s %T@ %l\n' | sort); }
export -f tree
check_sh "another volume gets names without data" 60 'url=$(jq -r .dir "$work/up.json" | jq -r "if type == \"array\" then .[0] else . end" 2>/dev/null || jq -r .dir "$work/up.json"); url=xtfs://${url#tcp://}/copy; echo "$url" >"$work/copy.url"
  "$XTFS" mkfs "$url" && { out=$("$XTFS" load "$url" "$work/dump" 2>&1); [ $? = 1 ] && grep -q "without-data" <<<"$out"; } && "$XTFS" load "$url" "$work/dump" --without-data && [ "$("$XTFS" find "$url" "name == \"f1\"")" = /t/deep/f1 ] && "$XTFS" fsck "$url" && mkdir "$work/copy" && "$XTFS" mount "$url" "$work/copy" && cd "$work/copy/t/deep" && [ ! -s f1 ] && there=0 && for n in $(seq 2 2 "$count"); do said=$(cat f$n); [ -z "$said" ] && continue; [ "$said" = "content $n" ] || exit 1; there=$((there + 1)); done && echo "$there small files" && [ "$there" -ge $((count / 4)) ] && cd / && umount "$work/copy"'

# All metadata is lost; the volume is made anew under its entry at the DIR, and loaded.
tree "$mnt" >"$work/before"
head -c 5000 /dev/urandom >"$mnt/t/made-after-the-dump"
sync
url=$(sed 's/copy$/default/' "$work/copy.url")
export url
check_sh "the MRC loses everything" 60 '"$XTFS" stop mrc-0 --data "$data" && rm -rf "$data/mrc-0" && "$XTFS" start mrc-0 --data "$data"'
check_sh "mkfs makes the volume anew, gc touches nothing of unknown files" 90 '"$XTFS" mkfs "$url" && "$XTFS" gc "$url" --older-than 0 --yes --json | tail -n 1 | jq -e ".lost_files == 0 and .unknown_files >= $count / 2"'
check_sh "load brings the metadata back" 90 '"$XTFS" load "$url" "$work/dump" && "$XTFS" fsck "$url"'
mkdir -p "$work/again"
check_sh "and with it all names, attributes and data" 90 '"$XTFS" mount "$url" "$work/again" && tree "$work/again" | diff "$work/before" - && for n in $(seq "$count"); do [ "$(head -n 1 "$work/again/t/deep/f$n")" = "content $n" ] || exit 1; done && [ "$(getfattr --only-values -n user.colour "$work/again/t/deep/f3")" = red ]'
check_sh "a new file does not meet what an old one left" 60 'truncate -s 100 "$work/again/t/new" && cmp "$work/again/t/new" <(head -c 100 /dev/zero)'
check_sh "what was made after the dump is lost, and collected" 60 '"$XTFS" gc "$url" --older-than 0 </dev/null 2>/dev/null && exit 1; "$XTFS" gc "$url" --older-than 0 --yes --json | tail -n 1 | jq -e ".lost_files == 1" && "$XTFS" gc "$url" --older-than 0 --dry-run --json | jq -e ".lost_files == 0" && cat "$work/again/t/deep/f1"'
check_sh "the quota came back too" 30 '"$XTFS" quota ls "$url" --json | jq -e ".[0].name == \"/t\" and .[0].inodes > 80"'
"$XTFS" umount "$work/again" >/dev/null 2>&1
finish
