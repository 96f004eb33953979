#!/usr/bin/env bash
# An OSD is lost for good: removed, its files get another OSD each by themselves; then one is drained.
. "$(dirname "$0")/instance.sh"
must_up --separate --dirs 1 --mrcs 1 --osds 5 --replicas 3 --no-exec
dirs=$(jq -r .dir "$work/up.json" | sed 's,tcp://,,g')
export here dirs
files=$(sized 40 12)
export files
for n in $(seq "$files"); do python3 "$here/damage.py" make "$mnt/f$n" 64 1; done

# on OSD: how many files name it.
on() {
  local n count=0
  for n in $(seq "$files"); do
    "$XTFS" replica ls "$mnt/f$n" --json | jq -e --argjson o "$1" '.changing or any(.replicas[]; .osd == $o)' >/dev/null && count=$((count + 1))
  done
  echo $count
}
export -f on
addr=$("$XTFS" osd ls --dir "$dirs" --json | jq -r '.[] | select(.osd == 2) | .addr')
name=$("$XTFS" ps --data "$data" --json | jq -r --arg a "$addr" '.[] | select(.addr == $a) | .name')
echo "     osd#2 is $name; $(on 2) of $files files name it"
murder "$name"
check_sh "a snapshot, and files that are changed after it" 60 'mkdir "$mnt/past" && for n in 1 2 3 4 5 6; do head -c 300000 /dev/urandom >"$mnt/past/f$n" || exit 1; done
  cp -r "$mnt/past" "$work/then" && "$XTFS" snapshot create "$mnt/past" s && for n in 1 2 3 4 5 6; do printf changed | dd of="$mnt/past/f$n" bs=1 seek="$((n * 1000))" conv=notrunc status=none || exit 1; done; cp -r "$mnt/past" "$work/now"'
check "osd remove" 20 "$XTFS" osd remove 2 --yes --dir "$dirs"
check_sh "no file names it any more" "$(sized 240 150)" 'until [ "$(on 2)" = 0 ]; do sleep 1; done'
check_sh "every file is whole" 60 'for n in $(seq "$files"); do python3 "$here/damage.py" check "$mnt/f$n" 64 1 >/dev/null || exit 1; done'
check_sh "a snapshot shows what was, its files what is" 60 'diff -r "$work/then" "$mnt/past/.snap/s" && diff -r "$work/now" "$mnt/past"'
check_sh "and in sync at three OSDs" 60 'for n in $(seq "$files"); do
  for _ in $(seq 50); do "$XTFS" replica ls "$mnt/f$n" --json | jq -e "(.replicas | length) == 3 and all(.replicas[]; .in_sync)" >/dev/null && continue 2; sleep 0.3; done; exit 1; done'
check "osd drain" 20 "$XTFS" osd drain 3 --dir "$dirs"
check_sh "no file names it any more" "$(sized 240 150)" 'until [ "$(on 3)" = 0 ]; do sleep 1; done'
check_sh "every file is still whole" 60 'for n in $(seq "$files"); do python3 "$here/damage.py" check "$mnt/f$n" 64 1 >/dev/null || exit 1; done'
check_sh "a snapshot shows what was, its files what is" 60 'diff -r "$work/then" "$mnt/past/.snap/s" && diff -r "$work/now" "$mnt/past"'
check "down" 60 "$XTFS" down --data "$data"
finish
