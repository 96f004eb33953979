#!/usr/bin/env bash
# Replica lists change while a file is being written: add, move and remove replicas; nothing is lost, nobody stands still for
# long, and what left the lists is cleared.
. "$(dirname "$0")/instance.sh"
must_up --separate --dirs 1 --mrcs 1 --osds 5 --replicas 3 --no-exec
export here
blocks=$(sized 2048 512)
export blocks
list() { "$XTFS" replica ls "$1" --json | jq -c '[.replicas[].osd]'; }
in_sync() { "$XTFS" replica ls "$1" --json | jq -e '(.changing | not) and all(.replicas[]; .in_sync)' >/dev/null; }
export -f list in_sync

file=$mnt/moved
export file
python3 "$here/damage.py" make "$file" "$blocks" 1
before=$(list "$file")
first=$(jq '.[0]' <<<"$before")
echo "     replicas at first: $before"
python3 "$here/stall-write.py" "$mnt/busy" "$(sized 30 12)" >"$work/stall.out" 2>&1 </dev/null &
stall=$!
sleep 1

check "add a replica" 60 "$XTFS" replica add "$file" --timeout 50
[ "$(list "$file" | jq length)" = 4 ] && ok "four replicas: $(list "$file")" || bad "after add: $(list "$file")"
check "take the first one out" 60 "$XTFS" replica rm "$file" --osd "$first" --timeout 50
check "move a replica of a file that is being written" 60 "$XTFS" replica move "$mnt/busy" --osd "$(list "$mnt/busy" | jq '.[0]')" --timeout 50
second=$(list "$file" | jq '.[0]')
# To the one of the five that is neither in the list nor has just left it.
target=$(list "$file" | jq --argjson a "$first" '([1, 2, 3, 4, 5] - . - [$a])[0]')
check "move the next one" 60 "$XTFS" replica move "$file" --osd "$second" --to "$target" --timeout 50
echo "     replicas now: $(list "$file")"
list "$file" | jq -e --argjson a "$first" --argjson b "$second" 'length == 3 and (index($a) | not) and (index($b) | not)' >/dev/null &&
  ok "neither osd#$first nor osd#$second is in the list" || bad "the list is $(list "$file")"
check_sh "all in sync" 60 'for _ in $(seq 100); do in_sync "$file" && in_sync "$mnt/busy" && exit 0; sleep 0.3; done; "$XTFS" replica ls "$file"; exit 1'
check "readers get what was written" 60 python3 "$here/damage.py" check "$file" "$blocks" 1
wait $stall && ok "the writer read back all it wrote; longest, number: $(cat "$work/stall.out")" || bad "the writer: $(cat "$work/stall.out")"
read -r longest _ <"$work/stall.out"
[ "$longest" -lt 2000 ] && ok "it never stood still for 2 s" || bad "it stood still for $longest ms"

# The file lives on what is in its list now.
for osd in $first $second; do
  addr=$("$XTFS" osd ls --dir "$(jq -r .dir "$work/up.json" | sed 's,tcp://,,g')" --json | jq -r --argjson o "$osd" '.[] | select(.osd == $o) | .addr')
  name=$("$XTFS" ps --data "$data" --json | jq -r --arg a "$addr" '.[] | select(.addr == $a) | .name')
  murder "$name"
done
check "readers get it without the two that left" 60 python3 "$here/damage.py" check "$file" "$blocks" 1
check "and it can be written" 60 python3 "$here/damage.py" make "$file" "$blocks" 2
check "and read" 60 python3 "$here/damage.py" check "$file" "$blocks" 2
check "down" 60 "$XTFS" down --data "$data"
finish
