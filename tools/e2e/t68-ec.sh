#!/usr/bin/env bash
# Erasure coding: closed files of a volume with `--ec 2+1` are encoded, read with an OSD dead, written again, encoded anew, and
# rebuilt when an OSD is removed for good.
export XTFS_EC_QUIET_MS=${XTFS_EC_QUIET_MS:-1000}
. "$(dirname "$0")/instance.sh"
must_up --separate --dirs 1 --mrcs 1 --osds 5 --replicas 3 --no-exec
dirs=$(jq -r .dir "$work/up.json" | sed 's,tcp://,,g')
url=xtfs://$(printf %s "$dirs" | cut -d, -f1)/coded
export here dirs url
files=$(sized 60 12)
export files
m=$work/ec
m2=$work/ec2
export m m2
mkdir -p "$m" "$m2"
check "a code that cannot be is refused" 20 bash -c '! "$XTFS" mkfs "${url%/*}/bad" --ec 17+1 --dir "$dirs"'
check "mkfs --ec 2+1" 30 "$XTFS" mkfs "$url" --ec 2+1 --replicas 3 --stripe-size 256K --dir "$dirs"
check_sh "ls shows it" 20 '"$XTFS" ls --dir "$dirs" --json | jq -e ".[] | select(.name == \"coded\") | .ec == \"2+1\""'
# mounted DIR; the process that serves it is remembered.
mounted() { timeout -k 5 40 "$XTFS" mount "$url" "$1" --dir "$dirs" >"$work/mount.out" 2>&1 </dev/null; }
gone() { timeout -k 5 30 "$XTFS" umount "$1" >/dev/null 2>&1 || umount -l "$1" 2>/dev/null; }
export -f mounted gone
check_sh "mount" 60 'mounted "$m"' || { finish; }

check_sh "a tree of files of all sizes" 120 'mkdir -p "$work/want/d" && python3 - <<PY
import os
files = int(os.environ["files"])
sizes = [0, 5, 65535, 65536, 65537, 131072, 262144, 524288, 524289, 786432, 1048577, 3000000]
for n in range(files):
    with open(os.path.join(os.environ["work"], "want", "d", "f%d" % n), "wb") as out:
        out.write(os.urandom(sizes[n % len(sizes)]))
with open(os.path.join(os.environ["work"], "want", "sparse"), "wb") as out:
    out.write(b"begin"); out.seek(2000000); out.write(b"end"); out.truncate(4000000)
PY
cp -r "$work/want/." "$m/" && sync -f "$m"'
# of MOUNT: how many of its files are encoded.
encoded() { find "$1" -type f | while read -r f; do "$XTFS" info "$f" --json | jq -r '.layout.ec // "none"'; done | grep -c '2+1'; }
big() { find "$1" -type f -size +65535c | wc -l; }
# all_encoded MOUNT SECONDS
all_encoded() {
  local want end=$((SECONDS + $2))
  want=$(big "$1")
  until [ "$(encoded "$1")" = "$want" ]; do [ $SECONDS -lt $end ] || { echo "$(encoded "$1") of $want"; "$XTFS" status --dir "$dirs"; return 1; }; sleep 1; done
}
export -f encoded big all_encoded
check_sh "all files of 64 KiB and more are encoded" 200 'all_encoded "$m" 100' || finish
check_sh "status tells" 60 'until "$XTFS" status --dir "$dirs" | grep -q "erasure coding: $(big "$m") files encoded"; do sleep 1; done'
check_sh "the bytes are the same" 60 'diff -r "$work/want" "$m"'
check_sh "three OSDs hold it once and a half, not thrice" 60 'for f in "$m"/d/f*; do
  size=$(stat -c %s "$f"); [ "$size" -ge 65536 ] || continue
  "$XTFS" info "$f" --json | jq -e --argjson s "$size" "(.osds | map(.bytes) | add) <= \$s * 1.6 + 16384 and (.osds | length) == 3" >/dev/null || { echo "$f"; "$XTFS" info "$f"; exit 1; }; done'
check_sh "replicas are collected" 60 'f=$m/d/f11; for _ in $(seq 50); do n=$("$XTFS" gc "$url" --dir "$dirs" --dry-run 2>&1) && break; sleep 1; done; echo "$n"'
check_sh "fsck finds nothing" 60 '"$XTFS" fsck "$url" --dir "$dirs"'

# An OSD that holds columns dies: a fresh mount, that has nothing cached, reads on.
victim=$("$XTFS" info "$m/d/f11" --json | jq -r '.layout.columns[0][0]')
addr=$("$XTFS" osd ls --dir "$dirs" --json | jq -r --argjson o "$victim" '.[] | select(.osd == $o) | .addr')
name=$("$XTFS" ps --data "$data" --json | jq -r --arg a "$addr" '.[] | select(.addr == $a) | .name')
echo "     osd#$victim is $name"
murder "$name"
check_sh "another mount" 60 'mounted "$m2"'
check_sh "the bytes are the same with one OSD dead" 120 'diff -r "$work/want" "$m2"'
check_sh "small reads too" 120 'python3 - <<PY
import os, random
random.seed(5)
for n in range(min(int(os.environ["files"]), 12)):
    path = "d/f%d" % n
    want = open(os.path.join(os.environ["work"], "want", path), "rb").read()
    got = os.open(os.path.join(os.environ["m2"], path), os.O_RDONLY)
    for _ in range(20):
        if not want: break
        at = random.randrange(len(want)); length = random.randrange(1, 9000)
        assert os.pread(got, length, at) == want[at:at + length], (path, at, length)
    os.close(got)
PY'
if revive "$name"; then ok "the OSD comes back"; else bad "the OSD comes back"; fi

# Writing makes replicas of it.
check_sh "files are written in part, appended to and cut" 60 'for t in "$work/want" "$m"; do
  printf changed | dd of="$t/d/f11" bs=1 seek=700001 conv=notrunc status=none && printf more >>"$t/d/f10" && truncate -s 300000 "$t/d/f9" && truncate -s 900000 "$t/d/f9" || exit 1; done'
check_sh "they show what was written, here and there" 60 'diff -r "$work/want" "$m" && diff -r "$work/want" "$m2"'
check_sh "one of them is replicated" 20 '"$XTFS" info "$m/d/f11" --json | jq -e ".layout.ec == null and (.layout.columns[0] | length) == 3" || "$XTFS" info "$m/d/f11" --json | jq -e ".layout.ec == \"2+1\""'
check_sh "and they are encoded anew" 200 'all_encoded "$m" 180 && diff -r "$work/want" "$m"'
check_sh "a snapshot, then changes" 60 '"$XTFS" snapshot create "$m/d" s && cp -r "$work/want/d" "$work/then" && for t in "$work/want" "$m"; do printf other | dd of="$t/d/f11" bs=1 seek=5 conv=notrunc status=none || exit 1; done'
check_sh "the snapshot shows what was, and the file what is" 60 'diff -r "$work/then" "$m/d/.snap/s" && diff -r "$work/want" "$m"'
check_sh "encoded anew, the snapshot still shows what was" 200 'all_encoded "$m" 180 && diff -r "$work/then" "$m/d/.snap/s" && diff -r "$work/want" "$m"'
check_sh "a directory without it, and a clear error" 30 'mkdir "$work/want/plain" "$m/plain" && "$XTFS" layout set "$m/plain" --ec none && "$XTFS" layout get "$m/plain" --json | jq -e ".ec == null" && ! "$XTFS" layout set "$m/plain" --ec 2+9'

# For good: rebuilt to other OSDs, then the next one may die.
victim=$("$XTFS" info "$m/d/f11" --json | jq -r '.layout.columns[0][0]')
addr=$("$XTFS" osd ls --dir "$dirs" --json | jq -r --argjson o "$victim" '.[] | select(.osd == $o) | .addr')
name=$("$XTFS" ps --data "$data" --json | jq -r --arg a "$addr" '.[] | select(.addr == $a) | .name')
murder "$name"
check "osd remove" 30 "$XTFS" osd remove "$victim" --yes --dir "$dirs"
export victim
on_victim() { find "$m/d" -type f -not -path '*/.snap/*' -size +65535c | while read -r f; do "$XTFS" info "$f" --json | jq -r '.layout.columns[][]'; done | grep -cx "$victim"; }
export -f on_victim
check_sh "no file names it any more" 240 'for _ in $(seq 200); do [ "$(on_victim)" = 0 ] && exit 0; sleep 1; done; exit 1'
check_sh "all are encoded" 120 'all_encoded "$m" 100'
other=$("$XTFS" info "$m/d/f11" --json | jq -r '.layout.columns[1][0]')
addr=$("$XTFS" osd ls --dir "$dirs" --json | jq -r --argjson o "$other" '.[] | select(.osd == $o) | .addr')
name=$("$XTFS" ps --data "$data" --json | jq -r --arg a "$addr" '.[] | select(.addr == $a) | .name')
murder "$name"
gone "$m2"
check_sh "a fresh mount" 60 'mounted "$m2"'
check_sh "the bytes are the same with another OSD dead" 120 'diff -r "$work/want" "$m2"'
gone "$m2"
gone "$m"
check "down" 60 "$XTFS" down --data "$data"
finish
