#!/usr/bin/env bash
# Quotas of users, groups and directories on a replicated cluster, through a mount and through the tool.
. "$(dirname "$0")/instance.sh"
[ "$(id -u)" = 0 ] || { ok "skipped: needs root to act as several users"; finish; }
must_up --separate --mrcs 3 --no-exec
mkdir -p "$mnt/p/deep" "$mnt/q" "$mnt/home" && chmod 777 "$mnt/p" "$mnt/p/deep" "$mnt/q" "$mnt/home"
# as UID COMMAND: acts as another user.
as() { local uid=$1; shift; setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@"; }
export -f as
files=$(sized 200 40)
export files

check_sh "a directory's inodes are limited exactly" 60 '"$XTFS" quota set "$mnt/p" --inodes $((files + 1)) && for n in $(seq "$files"); do : >"$mnt/p/deep/f$n" || exit 1; done
  out=$( { : >"$mnt/p/one-more"; } 2>&1); [ $? != 0 ] && grep -qi "quota" <<<"$out" || { echo "$out"; exit 1; }; [ "$(find "$mnt/p" -mindepth 1 | wc -l)" = "$((files + 1))" ]'
check_sh "mkdir, symlink and moving in are refused too" 30 'touch "$mnt/q/x" && ! mkdir "$mnt/p/d" 2>/dev/null && ! ln -s x "$mnt/p/l" 2>/dev/null && ! perl -e "rename(\"$mnt/q/x\", \"$mnt/p/x\") or exit 1"'
check_sh "removing makes room" 30 'rm "$mnt/p/deep/f1" && perl -e "rename(\"$mnt/q/x\", \"$mnt/p/x\") or exit 1" && ! touch "$mnt/p/y" 2>/dev/null'
check_sh "df of the directory shows its quota" 30 'set -- $(df --output=itotal,iavail "$mnt/p/deep" | tail -n 1); [ "$1" = $((files + 1)) ] && [ "$2" = 0 ]'
check_sh "df of the volume does not" 30 '[ "$(df --output=itotal "$mnt" | tail -n 1)" -gt 1000000 ]'
check_sh "quota get tells what applies" 30 '"$XTFS" quota get "$mnt/p/deep/f2" --json | jq -e ".[0].kind == \"directory\" and .[0].name == \"/p\" and .[0].inodes == $((files + 1))"'

check_sh "a directory's bytes: the write that does not fit fails with EDQUOT" 60 '"$XTFS" quota set "$mnt/q" --bytes 4M && out=$(dd if=/dev/zero of="$mnt/q/big" bs=64k count=100 2>&1); [ $? != 0 ] && grep -qi "quota" <<<"$out" || { echo "$out"; exit 1; }'
check_sh "one writer stays below the limit" 60 'sync "$mnt/q/big"; n=$(du -B1 "$mnt/q/big" | cut -f1); [ "$n" -le 4194304 ] && [ "$n" -ge 4063232 ] || { echo "$n"; exit 1; }'
check_sh "what was written is there and whole" 30 'cmp -n "$(stat -c %s "$mnt/q/big")" "$mnt/q/big" /dev/zero'
check_sh "df shows 4 MiB, next to nothing free" 30 'set -- $(df -B1 --output=size,avail "$mnt/q" | tail -n 1); [ "$1" = 4194304 ] && [ "$2" -lt 131072 ]'
check_sh "truncating gives the room back" 60 'truncate -s 1M "$mnt/q/big" && dd if=/dev/zero of="$mnt/q/other" bs=64k count=40 status=none && ! dd if=/dev/zero of="$mnt/q/third" bs=64k count=40 2>/dev/null'
check_sh "holes cost nothing, filling them does" 60 'rm "$mnt"/q/* && truncate -s 1G "$mnt/q/sparse" && dd if=/dev/zero of="$mnt/q/sparse" bs=1M seek=500 count=3 conv=notrunc status=none && ! dd if=/dev/zero of="$mnt/q/sparse" bs=1M seek=600 count=3 conv=notrunc 2>/dev/null'
check_sh "a mapped file under a quota ends with an error, not silently" 60 'python3 - "$mnt/q/mapped" <<"P"
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 16 << 20)
m = mmap.mmap(fd, 16 << 20)
m[:] = b"x" * len(m)
try:
    m.flush(); os.fsync(fd)
except OSError as error:
    print(error); sys.exit(0)
sys.exit("16 MiB were stored under a quota of 4 MiB")
P'

check_sh "a user's quota counts what was there before" 60 'for n in 1 2 3; do as 4001 touch "$mnt/home/a$n" || exit 1; done; "$XTFS" quota set "$mnt" --user 4001 --inodes 5 --json | jq -e ".inodes == 3 and (.counting | not)"'
check_sh "and binds this user only" 60 'as 4001 touch "$mnt/home/a4" "$mnt/home/a5" && ! as 4001 touch "$mnt/home/a6" 2>/dev/null && as 4002 touch "$mnt/home/b1"'
check_sh "a group's bytes" 60 '"$XTFS" quota set "$mnt" --group 4002 --bytes 1M && ! as 4002 dd if=/dev/zero of="$mnt/home/b1" bs=64k count=40 2>/dev/null && [ "$(stat -c %s "$mnt/home/b1")" -le 1048576 ]'
check_sh "others may not set quotas" 30 '! as 4001 "$XTFS" quota set "$mnt" --user 4001 --inodes 500 2>/dev/null'
check_sh "quota ls lists all four" 30 '[ "$("$XTFS" quota ls "$mnt" --json | jq length)" = 4 ]'

murder "$(leader_of mrc)"
check_sh "limits hold after the MRC leader was killed" 120 '! as 4001 touch "$mnt/home/a6" 2>/dev/null && ! touch "$mnt/p/y" 2>/dev/null'
# A new leader counts a removed file as open until all clients have told it what they have open.
check_sh "a removed file makes room once nobody can have it open" 120 'as 4001 rm "$mnt/home/a1" && until as 4001 touch "$mnt/home/a6" 2>/dev/null; do sleep 1; done'
check_sh "quota rm lifts a limit" 60 '"$XTFS" quota rm "$mnt/p" && touch "$mnt/p/y" && "$XTFS" quota rm "$mnt" --user 4001 && as 4001 touch "$mnt/home/a7" "$mnt/home/a8"'
check_sh "a quota that is not there" 30 'out=$("$XTFS" quota rm "$mnt/p" 2>&1); [ $? = 1 ] && grep -q "no such quota" <<<"$out"'
finish
