#!/usr/bin/env bash
# An OSD that was away gets what changed, and no more: small objects, and blocks of 4 KiB in objects of 1 MiB; from OSDs that
# remember what changed, from OSDs that were started since, and as a primary that fetches. Then the data is read from the one that was
# away alone.
. "$(dirname "$0")/instance.sh"
must_up --separate --dirs 1 --mrcs 1 --osds 3 --replicas 3 --no-exec
export here
small=${SMALL:-$(sized 10000 300)}
big=${BIG:-$(sized 300 24)}
limit_ms=${LIMIT_MS:-$(sized 5000 10000)}
dir=$mnt/resync
mkdir -p "$dir"
export dir small big

dirs=$(jq -r .dir "$work/up.json" | sed 's,tcp://,,g')
status() { "$XTFS" status --dir "$dirs" --json 2>/dev/null | jq -c .replication; }
# Of all OSDs: one that does not answer in time would be missing in the sum.
moved() {
  local told
  for _ in $(seq 20); do
    told=$(status)
    [ "$(jq '.silent | length' <<<"$told")" = 0 ] && break
    sleep 0.2
  done
  jq -r ".$1" <<<"$told"
}
in_sync() { status | jq -e .in_sync >/dev/null; }

# until_in_sync START: how long after START, ms. Who leads may change hands: what is said three times is believed.
until_in_sync() {
  local took times=0
  for _ in $(seq 1 600); do
    if in_sync; then
      [ $times = 0 ] && took=$(($(now_ms) - $1))
      times=$((times + 1))
      [ $times = 3 ] && { echo "$took"; return 0; }
    else
      times=0
    fi
    sleep 0.1
  done
  return 1
}

# come_back NAME CHANGED WHAT: starts it and looks at what goes there. The counters of the others are summed, so only what goes
# since now counts.
come_back() {
  local name=$1 changed=$2 what=$3 before after start took bytes
  before=$(moved resync_bytes)
  start=$(now_ms)
  revive "$name" || { bad "xtfs start $name: $(tail -n 2 "$work/start.out")"; return 1; }
  took=$(until_in_sync "$start") || { bad "$what: not in sync after 60 s: $(status)"; return 1; }
  after=$(moved resync_bytes)
  bytes=$((after - before))
  echo "     $what: in sync $took ms after the start; $changed bytes changed, $bytes moved" \
    "($(awk -v a="$bytes" -v b="$changed" 'BEGIN { printf "%.3f", a / b }')), $(moved resync_patches) patches in all"
  [ "$took" -le "$limit_ms" ] && ok "$what: in sync in time ($took of $limit_ms ms)" || bad "$what: in sync after $took ms, not $limit_ms"
  [ $((bytes * 10)) -le $((changed * 11)) ] && ok "$what: no more moved than 1.1 times what changed" ||
    bad "$what: $bytes bytes moved for $changed"
  [ $((bytes * 10)) -ge $((changed * 9)) ] && ok "$what: and it did move" || bad "$what: only $bytes bytes moved"
}

check "make $small small files and $big big ones" 600 python3 "$here/resync.py" make "$dir" "$small" "$big"
for _ in $(seq 50); do in_sync && break; sleep 0.2; done
in_sync && ok "all in sync" || bad "not in sync before it begins: $(status)"
[ -n "$(moved resync_bytes)" ] && ok "xtfs status --json tells resync_bytes: $(moved resync_bytes)" || bad "no resync_bytes in xtfs status --json"

# Away while things change.
murder osd-2
changed=$(python3 "$here/resync.py" change "$dir" "$small" "$big" 1) || bad "changes while osd-2 is away"
come_back osd-2 "$changed" "osd-2 was away"
check "what is read is what was written" 300 python3 "$here/resync.py" check "$dir" "$small" "$big" 1

# osd-0 leads most files: it fetches what it lacks. Nobody has to touch a file for it.
murder osd-0
sleep 1
changed=$(python3 "$here/resync.py" change "$dir" "$small" "$big" 2) || bad "changes while osd-0 is away"
come_back osd-0 "$changed" "osd-0 was away, which leads"
check "what is read is what was written" 300 python3 "$here/resync.py" check "$dir" "$small" "$big" 2

# Nobody remembers: who leads was started since. Who touches a file brings it into sync.
murder osd-2
changed=$(python3 "$here/resync.py" change "$dir" "$small" "$big" 3) || bad "changes while osd-2 is away again"
for name in osd-0 osd-1; do
  check "down $name" 30 "$XTFS" stop "$name" --data "$data"
  revive "$name" || bad "xtfs start $name: $(tail -n 2 "$work/start.out")"
done
before=$(moved resync_bytes)
revive osd-2 || bad "xtfs start osd-2: $(tail -n 2 "$work/start.out")"
check "what is read is what was written" 300 python3 "$here/resync.py" check "$dir" "$small" "$big" 3
took=$(until_in_sync "$(now_ms)") && ok "in sync when all was touched" || bad "not in sync after 60 s: $(status)"
bytes=$(($(moved resync_bytes) - before))
[ $((bytes * 10)) -le $((changed * 12)) ] && [ $((bytes * 10)) -ge $((changed * 9)) ] &&
  ok "by comparing checksums $bytes bytes moved for $changed" || bad "by comparing checksums $bytes bytes moved for $changed"
[ "$(moved resync_patches)" -ge "$big" ] && ok "of the big ones only what differs" || bad "only $(moved resync_patches) patches"

curl -sf "http://$("$XTFS" ps --data "$data" --json | jq -r '.[] | select(.name == "osd-1") | .http' | sed 's,http://,,')/metrics" |
  grep -q osd_resync_bytes && ok "/metrics has osd_resync_bytes" || bad "/metrics of osd-1 has no osd_resync_bytes"
check "scrub" 300 "$XTFS" scrub "xtfs://$dirs/$(jq -r .volume "$work/up.json")"
check "down" 60 "$XTFS" down --data "$data"
finish
