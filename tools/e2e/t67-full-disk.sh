#!/usr/bin/env bash
# A full disk under everything (DIR, MRC, OSDs): filled through the mount until ENOSPC, then by somebody else to the last byte. Programs
# hear of it, nothing that was acknowledged is lost, reading and removing go on, no process ends, and with room again everything
# goes on by itself.
. "$(dirname "$0")/instance.sh"
export here
[ "$(id -u)" = 0 ] || { echo "skipped: needs root for a disk of its own"; ok "skipped"; finish; }
mib=$(sized 1200 600)
recover_s=30

processes() { "$XTFS" ps --data "$data" --json 2>/dev/null | jq -cS '[.[] | select(.pid != null) | [.name, .pid]] | sort'; }
osds_up() { "$XTFS" osd ls --dir "$dirs" --json 2>/dev/null | jq '[.[] | select(.state == "up")] | length'; }
# Bytes that the mount's process has sent on the connections that it has now.
sent() {
  local pid
  pid=$(pid_of mount-0)
  ss -tinpH 2>/dev/null | grep -A1 "pid=$pid," | grep -o 'bytes_sent:[0-9]*' | awk -F: '{ s += $2 } END { print s + 0 }'
}
fill() { timeout -k 5 "$1" python3 "$here/full-disk.py" fill "$2" ${3:+"$3"} 2>"$work/fill.err" || { echo '{}'; cat "$work/fill.err" >&2; }; }
# full_said NAME JSON: ENOSPC at the open, the write, the fsync or the close, and nothing else.
full_said() {
  if jq -e '[.open, .write, .fsync, .close] | map(select(. != null)) | length > 0 and all(. == "ENOSPC")' <<<"$2" >/dev/null 2>&1; then
    ok "$1: $2"
  else
    bad "$1: $2"
  fi
}
alive() {
  local now
  now=$(processes)
  [ "$now" = "$before" ] && ok "$1: no process has ended" || bad "$1: processes were $before, now $now"
}

# scene MRCS REPLICAS
scene() {
  local said other records part took a b n total fulls
  echo "-- $1 MRC, $2 copies, a disk of $mib MiB"
  mkdir -p "$data"
  truncate -s "${mib}M" "$work/disk.img"
  { mkfs.ext4 -q -m 0 "$work/disk.img" && mount -o loop "$work/disk.img" "$data"; } || { bad "a disk of its own"; finish; }
  must_up --separate --dirs 1 --mrcs "$1" --osds 3 --replicas "$2" --no-exec
  dirs=$(jq -r .dir "$work/up.json" | sed 's,tcp://,,g')
  before=$(processes)
  check "a file from before" 30 python3 "$here/full-disk.py" until 5 "$mnt/old" $((8 << 20))

  # Through the mount.
  # A file lies on some of the OSDs: several, until each of them is full.
  total=0 fulls=0 n=0
  : >"$work/big"
  while [ $fulls -lt 3 ] && [ $n -lt 12 ]; do
    n=$((n + 1))
    said=$(fill 60 "$mnt/big-$n")
    records=$(jq '.records // 0' <<<"$said")
    echo "$n $records" >>"$work/big"
    total=$((total + records))
    [ "$records" -lt 64 ] && fulls=$((fulls + 1))
    jq -e '[.open, .write, .fsync, .close] | any(. == "ENOSPC") and all(. == null or . == "ENOSPC")' <<<"$said" >/dev/null ||
      bad "filled through the mount, file $n: $said"
  done
  [ $fulls = 3 ] && ok "filled through the mount: each of $n writers heard of ENOSPC, the last: $said" || bad "still not full after $n files: $said"
  [ $total -gt 100 ] && ok "$((total / 16)) MiB were taken" || bad "only $total records were taken"
  echo "     df: $(df -B1M --output=size,used,avail "$mnt" | tail -n 1) MiB in the mount, $(df -B1M --output=avail "$data" | tail -n 1) MiB free below"
  said=$(fill 20 "$mnt/more" $((1 << 20)))
  full_said "the next writer" "$said"
  check "what was acknowledged is read" 60 bash -c 'while read -r n records; do
    [ "$records" = 0 ] || python3 "$here/full-disk.py" check "$mnt/big-$n" "$records" || exit 1; done <"$work/big"'
  check "the file from before too" 30 python3 "$here/full-disk.py" check "$mnt/old" 128
  a=$(sent); sleep 3; b=$(sent)
  [ $((b - a)) -lt $((16 << 20)) ] && ok "$(((b - a) >> 10)) KiB sent in 3 s on the full disk" || bad "$(((b - a) >> 20)) MiB sent in 3 s on the full disk"
  alive "filled"
  check "rm" 20 bash -c 'rm -f "$mnt"/big-* "$mnt/more"'
  took=$(timeout -k 5 60 python3 "$here/full-disk.py" until $recover_s "$mnt/again" $((16 << 20)) 2>&1) &&
    ok "removing gives room: written and synced after $took s" || bad "after rm: $took"

  # By somebody else, to the last byte, while programs write.
  mkdir "$mnt/part" "$mnt/goes"
  # shellcheck disable=SC2016
  check "files that go" 30 bash -c 'for n in $(seq 30); do head -c 200000 /dev/urandom >"$mnt/goes/$n" || exit 1; done; cp "$mnt/goes/1" "$mnt/cut"; sync -f "$mnt/cut"'
  (for part in $(seq 40); do fill 30 "$mnt/part/$part" $((512 << 10)); sleep 0.1; done) >"$work/parts" 2>&1 &
  other=$!
  sleep 1
  for n in $(seq 200); do dd if=/dev/zero of="$data/hog" bs=512k count=1 oflag=append conv=notrunc >/dev/null 2>&1 || break; sleep 0.05; done
  dd if=/dev/zero of="$data/hog2" bs=4k >/dev/null 2>&1
  echo "     $(df -B1 --output=avail "$data" | tail -n 1) bytes are free below"
  sleep 3
  said=$(fill 20 "$mnt/part/last" $((1 << 20)))
  full_said "filled by somebody else" "$said"
  check "the files from before are read" 30 python3 "$here/full-disk.py" check "$mnt/old" 128
  check "and the one after" 30 python3 "$here/full-disk.py" check "$mnt/again" 256
  wait $other
  check "rm on the full disk" 20 rm -r "$mnt/goes"
  check "what was removed is gone" 10 test ! -e "$mnt/goes"
  check "a file is cut to nothing on the full disk" 10 truncate -s 0 "$mnt/cut"
  alive "filled by somebody else"
  [ "$(osds_up)" = 3 ] && ok "all OSDs are up" || bad "$(osds_up) OSDs are up"
  leader=$(leader_of mrc)
  for n in osd-1 "$leader"; do
    murder "$n"
    check "$n starts again on the full disk" 30 "$XTFS" start "$n" --data "$data"
  done
  remember
  before=$(processes)
  check "and what was there is read" 30 python3 "$here/full-disk.py" check "$mnt/old" 128
  rm -f "$data/hog" "$data/hog2"
  took=$(timeout -k 5 90 python3 "$here/full-disk.py" until $recover_s "$mnt/after" $((4 << 20)) 2>&1) &&
    ok "with room again: written and synced after $took s" || bad "with room again: $took"
  alive "with room again"
  part=0
  while read -r said; do
    part=$((part + 1))
    records=$(jq -r 'if .records then .records else empty end' <<<"$said" 2>/dev/null) || continue
    [ -n "$records" ] && [ "$records" -gt 0 ] || continue
    python3 "$here/full-disk.py" check "$mnt/part/$part" "$records" 2>"$work/out" || bad "$(cat "$work/out")"
  done < <(grep '^{' "$work/parts")
  ok "what was acknowledged of $part files meanwhile is there ($(grep -c ENOSPC "$work/parts") heard of ENOSPC)"
  check "down" 60 "$XTFS" down --data "$data"
  umount "$data" 2>/dev/null || umount -l "$data"
  rm -f "$work/disk.img"
}

scene 1 1
scene 3 3
finish
