#!/usr/bin/env bash
# Damage on the disk of one replica: a flipped bit, a zeroed block, an old block, a cut data file. Readers never get a wrong
# byte; reads and scrubs repair it from another replica, and a second scrub finds nothing.
. "$(dirname "$0")/instance.sh"
must_up --separate --dirs 1 --mrcs 1 --osds 4 --replicas 3 --no-exec
export here
url=xtfs://$(jq -r .dir "$work/up.json" | sed 's,tcp://,,g')/$(jq -r .volume "$work/up.json")
export url
blocks=$(sized 2048 512)
export blocks

# holder FILE INDEX: the name of the process at that place of the file's list.
holder() {
  local info osd addr
  info=$("$XTFS" info "$1" --json) || return 1
  osd=$(jq -r --argjson i "$2" '.layout.columns[0][$i]' <<<"$info")
  addr=$(jq -r --argjson o "$osd" '.osds[] | select(.osd == $o) | .addr' <<<"$info")
  "$XTFS" ps --data "$data" --json | jq -r --arg a "$addr" '.[] | select(.addr == $a) | .name'
}

# What an OSD says of itself.
osd_says() {
  local http
  http=$("$XTFS" ps --data "$data" --json | jq -r --arg n "$1" '.[] | select(.name == $n) | .http')
  curl -sf "http://${http#http://}/api/v1/status" | jq -r ".service.$2"
}

scrub() { "$XTFS" scrub "$url" --json >"$work/scrub.json"; }
export -f scrub

# one KIND INDEX: damage at that place of the list (0: the primary, which readers ask).
one() {
  local kind=$1 index=$2 file=$mnt/$1-$2 name
  python3 "$here/damage.py" make "$file" "$blocks" 1
  python3 "$here/damage.py" make "$file" "$blocks" 2
  sleep 1.5
  name=$(holder "$file" "$index")
  python3 "$here/damage.py" harm "$data/$name" "$file" "$kind" 100 2 >"$work/harm.out" || { bad "$(cat "$work/harm.out")"; return; }
  echo "     $name: $(sed "s,$work/,," "$work/harm.out")"
  check "$kind at replica $index: readers get what was written" 60 python3 "$here/damage.py" check "$file" "$blocks" 2
  if [ "$index" = 0 ]; then
    n=$(osd_says "$name" damage_mended)
    [ "$n" -gt 0 ] && ok "the read repaired $n blocks at $name" || bad "nothing was repaired at $name by reading"
  fi
  check "scrub repairs what is left" 120 bash -c scrub
  local found repaired
  found=$(jq '[.osds[].damaged] | add' "$work/scrub.json")
  repaired=$(jq '[.osds[].repaired] | add' "$work/scrub.json")
  if [ "$index" != 0 ]; then
    [ "$found" -gt 0 ] && ok "the scrub found $found blocks and repaired $repaired" || bad "the scrub found nothing: $(cat "$work/scrub.json")"
  fi
  check "a second scrub" 120 bash -c scrub
  [ "$(jq '[.osds[] | .damaged + .left] | add' "$work/scrub.json")" = 0 ] && ok "nothing is damaged any more" ||
    bad "the second scrub still finds something: $(cat "$work/scrub.json")"
  check "and once more" 60 python3 "$here/damage.py" check "$file" "$blocks" 2
}

for kind in flip zero stale cut; do
  for index in 0 1; do one $kind $index; done
done

# The same while the OSD is not there: its data file is gone when it comes back.
file=$mnt/lost
python3 "$here/damage.py" make "$file" "$blocks" 2
sleep 1.5
name=$(holder "$file" 0)
check "stop $name" 30 "$XTFS" stop "$name" --data "$data"
rm -v "$data/$name"/shard-*.data-* | sed "s,$work/,,; s/^/     /"
revive "$name" && ok "$name starts without its data files" || bad "xtfs start $name: $(tail -n 2 "$work/start.out")"
check "every file is whole for readers" 120 bash -uo pipefail -c '
  for f in "$mnt"/flip-* "$mnt"/zero-* "$mnt"/stale-* "$mnt"/cut-* "$mnt"/lost; do python3 "$here/damage.py" check "$f" "$blocks" 2 || exit 1; done'
check "scrub" 180 bash -c scrub
check "scrub again" 180 bash -c scrub
[ "$(jq '[.osds[] | .damaged + .left] | add' "$work/scrub.json")" = 0 ] && ok "$name has everything again" ||
  bad "the last scrub still finds something: $(cat "$work/scrub.json")"
check "down" 60 "$XTFS" down --data "$data"
finish
