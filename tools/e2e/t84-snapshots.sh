#!/usr/bin/env bash
# Snapshots and clones: what `.snap` shows stays what it was, whatever is done to the files, to the mount and to the leader; it can be
# compared and brought back; clones do not see one another's writes; when all are gone nothing is left.
#   WHAT="--dirs 1 --mrcs 1 --osds 1"   the instance [default: replicated, three of everything]
. "$(dirname "$0")/instance.sh"
: "${WHAT:=--mrcs 3 --osds 3 --replicas 3}"
[ "$(id -u)" = 0 ] || { ok "skipped: needs root for owners and for murder"; finish; }
# shellcheck disable=SC2086
must_up --separate --no-exec $WHAT
second=$work/second
mkdir "$second"
url=xtfs://$(jq -r .dir "$work/up.json")/default
timeout 60 "$XTFS" mount --json "$url" "$second" >"$work/second.json" || { bad "a second mount"; finish; }
jq -r .pid "$work/second.json" >>"$work/pids"
export second url here
manifest() { python3 "$here/snapshots.py" manifest "$1"; }
# same DIR FILE: DIR is what the manifest says.
same() { manifest "$1" >"$work/now" && diff "$2" "$work/now" | cut -c1-200 | head -n 20 && [ "${PIPESTATUS[0]}" = 0 ]; }
# counted: files of which OSDs have objects.
counted() { "$XTFS" gc "$mnt" --older-than 0 --dry-run --json | tail -n 1 | jq .files; }
export -f manifest same counted

check "a tree" 120 python3 "$here/snapshots.py" make "$mnt/t"
setfacl -m u:4003:rw "$mnt/t/two" "$mnt/t/d/deep/f4" 2>/dev/null && setfacl -d -m g:4004:rx "$mnt/t/d"
manifest "$mnt/t" >"$work/first"
mkdir "$work/copy" && cp -a "$mnt/t" "$work/copy/"
check_sh "--dry-run makes none" 30 '"$XTFS" snapshot create "$mnt/t" one --dry-run && "$XTFS" snapshot ls "$mnt/t" | grep -q "no snapshots"'
check_sh "a snapshot" 60 '"$XTFS" snapshot create "$mnt/t" one --json | jq -e ".name == \"one\" and .id == 1"'
check_sh "the other mount shows it" 120 'same "$second/t/.snap/one" "$work/first"'
check_sh ".snap is not listed" 30 '! ls -a "$mnt/t" | grep -q snap && [ "$(ls "$mnt/t/.snap")" = one ] && [ "$(ls "$mnt/t/d/.snap/one/deep" | wc -l)" = "$(ls "$mnt/t/d/deep" | wc -l)" ]'
check "everything is changed" 120 python3 "$here/snapshots.py" change "$mnt/t"
manifest "$mnt/t" >"$work/second.manifest"
check_sh "the snapshot is what the tree was" 120 'same "$mnt/t/.snap/one" "$work/first" && same "$second/t/.snap/one" "$work/first"'
check_sh "the tree is what was made of it, on both mounts" 120 'same "$second/t" "$work/second.manifest"'
check_sh "diff -r and rsync find it equal to a copy made before" 120 'diff -r --no-dereference "$mnt/t/.snap/one/d" "$work/copy/t/d" && diff "$mnt/t/.snap/one/big" "$work/copy/t/big" || exit 1; command -v rsync >/dev/null || exit 0; out=$(rsync -n --checksum -aHAXS --itemize-changes --delete "$mnt/t/.snap/one/" "$work/copy/t/"); [ -z "$out" ] || { echo "$out"; exit 1; }'
check_sh "inode numbers differ from those of now; holes are holes" 30 '[ "$(stat -c %i "$mnt/t/.snap/one/big")" != "$(stat -c %i "$mnt/t/big")" ] && python3 -c "import os,sys; f=os.open(sys.argv[1],0); sys.exit(os.lseek(f,0,os.SEEK_DATA) < 1<<20)" "$mnt/t/.snap/one/sparse"'
check_sh "nothing of it changes" 60 's=$mnt/t/.snap/one
  for try in "touch $s/new" "rm $s/two" "mkdir $s/x" "chmod 600 $s/two" "ln $s/two $s/three" "mv $s/two $s/three" "truncate -s 1 $s/two" "setfattr -n user.x -v y $s/two" "ln -s x $s/y" "mv $s/two $mnt/t/two-out" "cp $mnt/t/mode $s/two" "touch $mnt/t/.snap/x"; do
    out=$($try 2>&1) && { echo "$try: done"; exit 1; }; grep -q "Read-only file system" <<<"$out" || { echo "$try: $out"; exit 1; }
  done; mv "$mnt/t/.snap" "$mnt/t/y" 2>/dev/null && exit 1; rmdir "$mnt/t/.snap" 2>/dev/null && exit 1; same "$s" "$work/first"'
check_sh "errors say what, why and what next" 60 'out=$("$XTFS" snapshot create "$mnt/t" one 2>&1); [ $? = 1 ] && grep -q "exists; choose another name" <<<"$out" || { echo "$out"; exit 1; }
  out=$(setpriv --reuid 4001 --regid 4001 --clear-groups "$XTFS" snapshot create "$mnt/t" mine 2>&1); [ $? = 1 ] && grep -q "does not own" <<<"$out" || { echo "$out"; exit 1; }
  out=$("$XTFS" snapshot rm "$mnt/t" two --yes 2>&1); [ $? = 1 ] && grep -q "snapshot ls" <<<"$out" || { echo "$out"; exit 1; }
  "$XTFS" snapshot rm "$mnt/t" one </dev/null 2>/dev/null; [ $? = 2 ] && mkdir "$mnt/t/.snap/one" 2>/dev/null && exit 1; exit 0'
check_sh "ls" 30 '"$XTFS" snapshot ls "$mnt/t" | grep -q "^one  */t  *20.*Z  *1$" && "$XTFS" snapshot ls "$url" --json | jq -e "length == 1 and .[0].directory == \"/t\" and .[0].id == 1"'
check_sh "diff" 60 '"$XTFS" snapshot diff "$mnt/t" one >"$work/diff"; for line in "M big" "+ becomes-directory/" "+ becomes-directory/x" "- becomes-directory" "- becomes-file/" "- becomes-file/in" "+ becomes-file" "- deleted" "- fifo" "M sparse" "m two" "m d/" "- d/deep/er/two-again" "+ d/deep/er/g1" "- d/deep/f1" "M d/deep/f2" "m d/deep/" "- moved/m" "M link"; do grep -qxF -- "$line" "$work/diff" || { echo "no $line"; exit 1; }; done; ! grep -q "dangling" "$work/diff" && "$XTFS" snapshot diff "$mnt/t" one --json | jq -es "length == $(wc -l <"$work/diff") and any(.[]; .change == \"modified\" and .path == \"big\" and .type == \"file\")" >/dev/null'
check_sh "mkdir in .snap makes one, of a directory below too" 60 'mkdir "$mnt/t/.snap/two" && ! mkdir "$second/t/d/.snap/two" 2>/dev/null && "$XTFS" snapshot create "$second/t/d" two && mkdir "$mnt/t/d/deep/.snap/own" && rmdir "$mnt/t/d/deep/.snap/own" && ls "$mnt/t/d/.snap" | sort | tr "\n" " " | grep -qx "one two two@2 " && same "$second/t/.snap/two" "$work/second.manifest" && rmdir "$mnt/t/d/.snap/two" && [ "$(ls "$mnt/t/d/.snap" | tr "\n" " ")" = "one two " ]'
check_sh "nothing differs from it" 60 'out=$("$XTFS" snapshot diff "$mnt/t" two); [ -z "$out" ] || { echo "$out"; exit 1; }'
check_sh "between two snapshots it is what it was" 60 '"$XTFS" snapshot diff "$mnt/t" one two | diff "$work/diff" -'
check_sh "fsck and gc find nothing" 120 '"$XTFS" fsck "$mnt" && "$XTFS" gc "$mnt" --older-than 0 --dry-run --json | tail -n 1 | jq -e ".lost_files == 0 and .unknown_files == 0"'

# Writers on both mounts, each number acknowledged before the next one: a snapshot has what was acknowledged before it was asked for, and
# nothing that began after it was made, of one writer no later number without the earlier ones.
cat >"$work/counter.py" <<'PY'
import os, sys
folder, end, log = sys.argv[1:]
files = [os.open(f"{folder}/{name}", os.O_RDWR | os.O_CREAT) for name in "abc"]
log = os.open(log, os.O_WRONLY | os.O_CREAT)
number = 0
while not os.path.exists(end):
    number += 1
    for fd in files:
        os.pwrite(fd, b"%08d" % number, 4093)
    os.pwrite(log, b"%08d" % number, 0)
PY
for side in mnt second; do
  mkdir -p "$mnt/moment/$side"
  python3 "$work/counter.py" "${!side}/moment/$side" "$work/counted" "$work/log.$side" >"$work/counter.$side" 2>&1 </dev/null &
  echo $! >>"$work/pids"
done
check_sh "a snapshot is one moment, under writers on both mounts" 120 'for _ in $(seq 100); do [ -s "$work/log.mnt" ] && [ -s "$work/log.second" ] && break; sleep 0.1; done
  for n in 1 2 3 4; do
    before="$(cat "$work/log.mnt") $(cat "$work/log.second")"; mkdir "$mnt/moment/.snap/s$n" || exit 1; after="$(cat "$work/log.mnt") $(cat "$work/log.second")"
    python3 - "$mnt/moment/.snap/s$n" $before $after <<PY || exit 1
import sys
root, low, high = sys.argv[1], sys.argv[2:4], sys.argv[4:6]
for side, low, high in zip(["mnt", "second"], low, high):
    seen = [int(open(f"{root}/{side}/{name}", "rb").read()[4093:]) for name in "abc"]
    good = int(low) <= seen[2] <= seen[1] <= seen[0] <= seen[2] + 1 and seen[2] <= int(high) + 1
    if not good:
        sys.exit(f"{side}: {seen}, acknowledged before {low}, after {high}")
PY
    sleep 0.3
  done
  touch "$work/counted"; for n in 1 2 3 4; do rmdir "$mnt/moment/.snap/s$n" || exit 1; done; cat "$work"/counter.*; [ ! -s "$work/counter.mnt" ] && [ ! -s "$work/counter.second" ]'
touch "$work/counted"

# A mount that is killed: what is open in a snapshot goes on.
cat >"$work/slow-reader.py" <<'PY'
import hashlib, os, sys, time
path, go = sys.argv[1:]
fd = os.open(path, os.O_RDONLY)
here = os.open(os.path.dirname(path), os.O_RDONLY)
digest = hashlib.sha256(os.pread(fd, 1 << 20, 0))
print("begun", flush=True)
while not os.path.exists(go):
    time.sleep(0.05)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
at = 1 << 20
while data := os.pread(fd, 1 << 20, at):
    digest.update(data)
    at += len(data)
again = os.open("two", os.O_RDONLY, dir_fd=here)
assert os.read(again, 100) == b"two names"
print(digest.hexdigest(), flush=True)
PY
python3 "$work/slow-reader.py" "$mnt/t/.snap/one/big" "$work/go" >"$work/reader.out" 2>&1 </dev/null &
reader=$!
echo $reader >>"$work/pids"
for _ in $(seq 100); do grep -q begun "$work/reader.out" && break; sleep 0.1; done
leader=$(leader_of mrc)
murder mount-0
murder "$leader"
sleep 1
for name in "$leader" mount-0; do revive "$name" || bad "revive $name"; done
touch "$work/go"
check_sh "a killed mount and a killed leader: who reads a snapshot reads on" 120 'for _ in $(seq 600); do [ "$(wc -l <"$work/reader.out")" -ge 2 ] && break; sleep 0.2; done; [ "$(tail -n 1 "$work/reader.out")" = "$(sha256sum <"$work/copy/t/big" | cut -d" " -f1)" ] || { cat "$work/reader.out"; exit 1; }'
check_sh "and all snapshots are what they were" 180 'same "$mnt/t/.snap/one" "$work/first" && same "$mnt/t/.snap/two" "$work/second.manifest"'

check_sh "a new tree from a snapshot" 120 '"$XTFS" snapshot restore "$mnt/t" one --to "$mnt/new" && same "$mnt/new" "$work/first"'
check_sh "the oldest one goes, the other stays" 120 '"$XTFS" snapshot rm "$mnt/t" one --yes && [ ! -e "$mnt/t/.snap/one" ] && [ ! -e "$second/t/.snap/one" ] && sleep 3 && same "$mnt/t/.snap/two" "$work/second.manifest" && same "$second/new" "$work/first"'
check "changed once more" 60 bash -c 'rm -rf "$mnt/t/d" && : >"$mnt/t/big" && echo x >"$mnt/t/added" && rm "$mnt/t/two" && mv "$mnt/t/sparse" "$mnt/t/becomes-directory/was-sparse"'
ino=$(stat -c %i "$mnt/t/big")
sparse=$(stat -c %i "$mnt/t/becomes-directory/was-sparse")
export ino sparse
check_sh "restore asks, tells, and changes nothing" 60 '"$XTFS" snapshot restore "$mnt/t" two </dev/null 2>/dev/null; [ $? = 2 ] && "$XTFS" snapshot restore "$mnt/t" two --dry-run >"$work/would" && grep -qxF -- "- added" "$work/would" && grep -qxF "M big" "$work/would" && [ -e "$mnt/t/added" ]'
check_sh "restore in place; files that are there stay the same inodes" 120 '"$XTFS" snapshot restore "$mnt/t" two --yes && same "$mnt/t" "$work/second.manifest" && same "$second/t" "$work/second.manifest" && [ "$(stat -c %i "$mnt/t/big")" = "$ino" ] && [ "$(stat -c %i "$mnt/t/sparse")" = "$sparse" ]'
check_sh "once more, there is nothing to do" 60 'out=$("$XTFS" snapshot diff "$mnt/t" two | grep -v "^m"); [ -z "$out" ] && "$XTFS" snapshot restore "$mnt/t" two --yes --json | jq -e ".removed == 0" && same "$mnt/t" "$work/second.manifest"'

check_sh "a clone of a file, and writes to both" 120 'cp "$mnt/new/big" "$work/a" && cp "$work/a" "$work/b" && "$XTFS" clone "$mnt/new/big" "$mnt/new/big-2" && cmp "$second/new/big-2" "$work/b" || exit 1
  for side in a:big b:big-2; do for at in 0 5000 1048570 9000001 20971510; do for file in "$work/${side%:*}" "$mnt/new/${side#*:}"; do printf "%s writes at %s" "$side" "$at" | dd of="$file" bs=1 seek="$at" conv=notrunc status=none || exit 1; done; done; done
  cmp "$mnt/new/big" "$work/a" && cmp "$mnt/new/big-2" "$work/b" && cmp "$second/new/big" "$work/a" && cmp "$second/new/big-2" "$work/b"'
check_sh "a clone does not overwrite, --force replaces content" 60 'out=$("$XTFS" clone "$mnt/new/big" "$mnt/new/big-2" 2>&1); [ $? = 1 ] && grep -q "exists" <<<"$out" && "$XTFS" clone "$mnt/new/big" "$mnt/new/big-2" --force && cmp "$mnt/new/big-2" "$work/a" && cmp "$second/new/big-2" "$work/a"'
check_sh "a clone of a directory, of a file in a snapshot, over URLs" 120 '"$XTFS" clone "$mnt/t" "$mnt/cloned" --json | jq -e ".files > 50" && same "$mnt/cloned" "$work/second.manifest" && "$XTFS" clone "$mnt/t/.snap/two/big" "$mnt/big-then" && cmp "$mnt/big-then" "$mnt/t/.snap/two/big" && "$XTFS" clone "$url/t/.snap/two/d/deep" "$url/deep-then" && diff -r "$mnt/deep-then" "$mnt/t/d/deep"'
check_sh "a directory is not cloned into itself" 30 'out=$("$XTFS" clone "$mnt/t" "$mnt/t/d/x" 2>&1); [ $? = 1 ] && grep -q "into itself" <<<"$out"'
# A new top of a replicated file may have records of its columns at the OSDs, and no data.
check_sh "copy_file_range of a whole large file shares it" 60 'python3 -c "import os,sys
a=os.open(sys.argv[1],os.O_RDONLY); b=os.open(sys.argv[2],os.O_WRONLY|os.O_CREAT|os.O_EXCL); n=os.fstat(a).st_size
assert os.copy_file_range(a,b,n,0,0) == n and os.stat(sys.argv[2]).st_size == n" "$mnt/new/big" "$mnt/ranged" || exit 1
  held=$("$XTFS" info "$mnt/ranged" | grep "^osd#"); [ -n "$held" ] && ! grep -v " 0 B " <<<"$held" || { echo "it was copied: $held"; exit 1; }
  cp "$work/a" "$work/c" && for file in "$mnt/ranged" "$work/c"; do printf after | dd of="$file" bs=1 seek=7 conv=notrunc status=none; done; cmp "$mnt/ranged" "$work/c" && cmp "$second/ranged" "$work/c" && cmp "$mnt/new/big" "$work/a"'
check_sh "a snapshot outlives its directory, and goes by its number" 60 'mkdir -p "$mnt/short/in" && echo x >"$mnt/short/in/f" && mkdir "$mnt/short/.snap/last" && rm -r "$mnt/short" && id=$("$XTFS" snapshot ls "$mnt" --json | jq -e ".[] | select(.name == \"last\" and .directory == null) | .id") && "$XTFS" snapshot ls "$mnt" | grep -q "gone" && "$XTFS" snapshot rm "$mnt" --id "$id" --yes && ! "$XTFS" snapshot ls "$mnt" | grep -q last'
check_sh "tools that show the present refuse what lies in a snapshot" 30 'out=$("$XTFS" du "$mnt/t/.snap/two/d" 2>&1); [ $? = 1 ] && grep -q "lies in a snapshot" <<<"$out" && out=$("$XTFS" info "$mnt/t/.snap/two/big" 2>&1); [ $? = 1 ] && grep -q "lies in a snapshot" <<<"$out"'
check_sh "fsck and gc find nothing, still" 120 '"$XTFS" fsck "$mnt" && "$XTFS" gc "$mnt" --older-than 0 --dry-run --json | tail -n 1 | jq -e ".lost_files == 0 and .unknown_files == 0"'
check_sh "when all is gone nothing is left" 180 'exec 8<"$mnt/t/.snap/two/big"; "$XTFS" snapshot rm "$mnt/t" --id "$("$XTFS" snapshot ls "$mnt/t" --json | jq ".[0].id")" --yes && rm -rf "$mnt"/t "$mnt"/moment "$mnt"/new "$mnt"/cloned "$mnt"/big-then "$mnt"/deep-then "$mnt"/ranged && for _ in $(seq 300); do [ "$(counted)" = 0 ] && break; sleep 0.3; done; [ "$(counted)" = 0 ] || { echo "objects of $(counted) files are left"; exit 1; }
  out=$(dd bs=1M count=1 skip=3 iflag=direct status=none <&8 2>&1 | head -c 100 | tr -d "\0"); grep -qi "stale" <<<"$out" || { echo "an open file of a removed snapshot read: $out"; exit 1; }'
check_sh "fsck at the end" 60 '"$XTFS" fsck "$mnt"'
timeout 20 "$XTFS" umount "$second" >/dev/null 2>&1
finish
