#!/usr/bin/env bash
# stress-ng's file system stressors, all kinds at once, on two mounts of one instance at the same time, each checking its own work; then fsck. Not in the gate: it needs the package
# stress-ng.   SECS=1800 tools/e2e/stress-ng.sh
. "$(dirname "$0")/instance.sh"
command -v stress-ng >/dev/null || { echo "stress-ng is not installed: apt-get install stress-ng"; exit 1; }
must_up --separate --dirs 3 --mrcs 3 --osds 3 --no-exec
url=xtfs://$(jq -r .dir "$work/up.json" | sed 's,tcp://,,g')/$(jq -r .volume "$work/up.json")
second=$work/second
mkdir "$second"
check "a second mount" 30 "$XTFS" mount "$url" "$second"
seconds=${SECS:-60}
kinds="access chattr chdir chmod chown copy-file dentry dir dirdeep dirmany fallocate fcntl fiemap file-ioctl filename flock fpunch fsize fstat getdent handle hdd
  inode-flags inotify io iomix lease link locka lockf lockofd mknod open rename symlink sync-file touch utime verity xattr seek sendfile mmap fault"
options=$(for kind in $kinds; do echo "--$kind 1"; done)
mkdir "$mnt/a" "$mnt/b"
# Some of them make files where they are started.
cd "$work"
# Some stressors go on for a while after their time, to remove what they made.
# shellcheck disable=SC2086
timeout $((seconds * 2 + 600)) stress-ng --temp-path "$mnt/a" --verify -t "${seconds}s" $options >"$work/a.log" 2>&1 </dev/null & first=$!
# shellcheck disable=SC2086
timeout $((seconds * 2 + 600)) stress-ng --temp-path "$second/b" --verify -t "${seconds}s" $options >"$work/b.log" 2>&1 </dev/null & other=$!
for of in "$first a" "$other b"; do
  read -r pid name <<<"$of"
  wait "$pid" && ok "mount $name: $(grep -o 'successful run.*' "$work/$name.log")" || bad "mount $name: $(grep -iE 'fail|error' "$work/$name.log" | head -n 5)"
done
check_sh "nothing is left" 30 '[ -z "$(ls -A "$mnt/a" "$mnt/b" | grep -v :)" ]'
check "fsck" 300 "$XTFS" fsck "$url"
umount "$second"
check "down" 60 "$XTFS" down --data "$data"
finish
