#!/usr/bin/env bash
# What was acknowledged and neither closed nor synced outlives kill -9: of the mount, and of everything at once.
. "$(dirname "$0")/instance.sh"

# A writer's last write may have arrived without its having heard of it, and then overwritten what the log says last: the
# check allows nothing else to differ, so the writer is stopped before the kill.
writer() { python3 "$here/unsynced-write.py" "$1" "$2" >"$3" 2>"$3.err" </dev/null & }

# A process that was killed keeps its locks until the kernel has cleared up after it.
slay() { kill -9 "$1"; for _ in $(seq 100); do grep -qs '^State:.[^ZX]' "/proc/$1/status" || return 0; sleep 0.05; done; }

# Everything, the writer too, which is stopped before: a write that is not answered may or may not be there.
slay_all() {
  sleep 1.5
  kill -STOP $pid
  slay "$(jq -r .pid "$work/up.json")"
  kill -9 $pid
  umount -l "$mnt" 2>/dev/null
  wait $pid 2>/dev/null
  up --no-exec || bad "the second up"
}

must_up --separate --mrcs 3 --no-exec
for n in $(seq "$(sized 8 3)"); do
  writer "$mnt/mount-$n" 4 "$work/mount-$n"
  pid=$!
  sleep 1
  murder mount-0 || bad "no mount-0"
  revive mount-0 || bad "xtfs start mount-0: $(tail -n 2 "$work/start.out")"
  wait $pid || bad "the writer failed: $(tail -n 1 "$work/mount-$n.err")"
  check "kill -9 of the mount under an unsynced writer, $n" 30 python3 "$here/unsynced-write.py" --check "$mnt/mount-$n" "$work/mount-$n"
done
for n in $(seq "$(sized 4 2)"); do
  python3 "$here/closed-files.py" "$mnt/closed-$n" "$work/closed-$n" 2>/dev/null </dev/null &
  pid=$!
  sleep 1
  kill -STOP $pid
  murder mount-0
  revive mount-0 || bad "xtfs start mount-0: $(tail -n 2 "$work/start.out")"
  kill -9 $pid; wait $pid 2>/dev/null
  check "kill -9 of the mount: every closed file is whole, $n" 40 python3 "$here/closed-files.py" --check "$mnt/closed-$n" "$work/closed-$n"
done
# Files that were made while no MRC could hear of them: made by the mount alone.
url=xtfs://$(jq -r .dir "$work/up.json" | sed 's,tcp://,,g')/$(jq -r .volume "$work/up.json")
pids_of_mrcs() { for n in 0 1 2; do pid_of "mrc-$n"; done; }
for n in $(seq "$(sized 4 2)"); do
  check_sh "a directory to make files in, $n" 20 'mkdir "$mnt/made-'$n'"; for i in 1 2 3; do echo $i >"$mnt/made-'$n'/first-$i"; done; mkdir "$mnt/old-'$n'"; for i in $(seq 40); do echo "old $i" >"$mnt/old-'$n'/$i"; done; sync -f "$mnt"'
  # What another mount made, and holds no more (the names of the top directory are forgotten by that, and looked up again): who goes on removing is given the right to go on alone.
  check_sh "a tree that another mount made is removed in part, $n" 60 'mkdir -p "$work/other" && "$XTFS" mount "'"$url"'" "$work/other" && mkdir -p "$work/other/tree-'$n'/sub" && cd "$work/other/tree-'$n'" &&
    for i in $(seq 40); do echo $i >$i; done && for i in $(seq 20); do echo $i >sub/$i; done && cd / && umount "$work/other" && sleep 1 && ls -lR "$mnt/tree-'$n'" >/dev/null && cd "$mnt/tree-'$n'" && rm $(seq 6) && cd sub && rm $(seq 6) && ls -ld "$mnt/made-'$n'" "$mnt/old-'$n'" >/dev/null'
  mrcs=$(pids_of_mrcs) mount=$(pid_of mount-0)
  # shellcheck disable=SC2086
  kill -STOP $mrcs
  check_sh "more of that tree, and a directory of it, goes while every MRC stands still, $n" 3 'cd "$mnt/tree-'$n'" && rm $(seq 7 25) && rm $(seq -f sub/%g 7 20) && rmdir sub'
  check_sh "20 files are made and written, and 60 made, while every MRC stands still, $n" 3 'for i in $(seq 20); do echo "$i of '$n'" >"$mnt/made-'$n'/$i"; done; for i in $(seq 60); do : >"$mnt/made-'$n'/empty-$i"; done'
  check_sh "10 files are removed, 10 moved to the other directory and 10 put in the place of others meanwhile, $n" 3 'cd "$mnt/old-'$n'" && rm $(seq 10) && for i in $(seq 11 20); do mv $i "../made-'$n'/moved-$i" || exit 1; done && for i in $(seq 21 30); do mv $i $((i + 10)) || exit 1; done'
  check_sh "10 files get a further name and lose the first, as git does it, and 10 keep both, $n" 3 'cd "$mnt/made-'$n'" && for i in $(seq 10); do echo "object $i" >tmp && ln tmp object-$i && [ "$(stat -c %h tmp)" = 2 ] && rm tmp && [ "$(stat -c %h object-$i)" = 1 ] || exit 1; done && for i in $(seq 10); do ln object-$i both-$i || exit 1; done'
  tree='mkdir -p tree/a/b/c && for d in tree tree/a tree/a/b tree/a/b/c; do echo "in $d" >$d/f && chmod 700 $d && touch -d 2001-02-03T04:05:06 $d || exit 1; done'
  (mkdir -p "$work/local-$n" && cd "$work/local-$n" && eval "$tree") || bad "a tree on the local disk"
  check_sh "a tree of directories is made, another copied there, with rights and times, meanwhile, $n" 3 'cd "$mnt/made-'$n'" && '"$tree"' && cp -a "$work/local-'$n'/tree" copy && mkdir gone && rmdir gone && [ "$(stat -c "%a %h %Y" copy/a)" = "700 3 $(date -d 2001-02-03T04:05:06 +%s)" ]'
  slay "$mount"
  # shellcheck disable=SC2086
  kill -CONT $mrcs
  revive mount-0 || bad "xtfs start mount-0: $(tail -n 2 "$work/start.out")"
  check_sh "kill -9 of the mount: what was removed is gone, what was moved is where it went, $n" 40 'cd "$mnt/old-'$n'" && [ "$(echo $(ls | sort -n))" = "$(echo $(seq 31 40))" ] && for i in $(seq 21 30); do [ "$(cat $((i + 10)))" = "old $i" ] || exit 1; done && for i in $(seq 11 20); do [ "$(cat "../made-'$n'/moved-$i")" = "old $i" ] || exit 1; done'
  check_sh "kill -9 of the mount: what was left of the tree is there, $n" 40 '[ "$(echo $(ls "$mnt/tree-'$n'" | sort -n))" = "$(echo $(seq 26 40))" ]'
  check_sh "kill -9 of the mount: each name of each file is there, $n" 40 'cd "$mnt/made-'$n'" && for i in $(seq 10); do [ "$(cat both-$i) $(stat -c %h object-$i)" = "object $i 2" ] && [ object-$i -ef both-$i ] || exit 1; done && [ ! -e tmp ]'
  check_sh "kill -9 of the mount: the directories and what is in them are there, with their rights and times, $n" 40 'cd "$mnt/made-'$n'" && for t in tree copy; do for d in $t $t/a $t/a/b $t/a/b/c; do [ "$(stat -c "%a %Y" $d)" = "700 $(date -d 2001-02-03T04:05:06 +%s)" ] && [ "$(cat $d/f)" = "in tree${d#"$t"}" ] || exit 1; done; done && diff -r tree copy'
  check_sh "kill -9 of the mount: they are there, $n" 40 '[ "$(ls "$mnt/made-'$n'" | wc -l)" = 115 ] && for i in $(seq 20); do [ "$(cat "$mnt/made-'$n'/$i")" = "$i of '$n'" ] || exit 1; done'
done
# Small files are at the MRC until somebody writes them again.
export url
osds=$(timeout 20 "$XTFS" ps --data "$data" --json | jq -r '.[] | select(.name | startswith("osd-")) | .pid')
is_inline='[ "$("$XTFS" info --json "$1" | jq -r .layout.inline)" = "$2" ]'
mkdir "$mnt/small"
echo first >"$mnt/small/first"
# shellcheck disable=SC2086
kill -STOP $osds
check_sh "small files are made, written and moved while every OSD stands still" 4 'cd "$mnt/small" && for i in $(seq 40); do echo "small $i" >$i; done && for i in $(seq 10); do mv $i moved-$i; done && chmod 600 40 && touch -d 2001-02-03 39'
# On a machine with much else to do a shell may have one open for so long that it went to the OSD.
check_sh "another mount reads them meanwhile" 60 'mkdir -p "$work/other" && "$XTFS" mount "$url" "$work/other" && cd "$work/other/small" && right=0 && for i in $(seq 40); do name=$i; [ $i -le 10 ] && name=moved-$i; said=$(timeout 1 cat $name); [ "$said" = "small $i" ] && right=$((right + 1)); [ -z "$said" ] || [ "$said" = "small $i" ] || exit 1; done && echo "$right of 40" && [ $right -ge 30 ]'
# shellcheck disable=SC2086
kill -CONT $osds
check_sh "who writes one takes it to the OSDs, for both mounts" 20 'cd "$mnt/small" && echo more >>20 && : >21 && truncate -s 5 22 && printf X | dd of=23 bs=1 seek=6 conv=notrunc 2>/dev/null && cd "$work/other/small" && [ "$(cat 20)" = "small 20
more" ] && [ ! -s 21 ] && [ "$(cat 22)" = small ] && [ "$(cat 23)" = "small X3" ] && [ "$(stat -c "%a %s" 40)" = "600 9" ] && [ "$(stat -c %Y 39)" = "$(date -d 2001-02-03 +%s)" ] && echo 24 >24 && [ "$(cat "$mnt/small/24")" = 24 ] && cd / && umount "$work/other"'
check_sh "xtfs info says which is where" 20 'is() { '"$is_inline"'; }; cd "$mnt/small" && is 20 false && is 24 false && inline=0 && for i in $(seq 25 40); do is $i true && [ "$("$XTFS" info --json $i | jq "[.osds[].objects] | add")" = 0 ] && inline=$((inline + 1)); done && [ $inline -ge 12 ]'
# What a program has open lives on when its last name goes, also when it was opened through a mount process that is dead, and the MRC has not heard of that.
python3 "$here/held-file.py" "$mnt/held" "$work/held.ready" "$work/held.go" 2>"$work/held.err" </dev/null &
pid=$!
for _ in $(seq 200); do [ -e "$work/held.ready" ] && break; sleep 0.1; done
murder mount-0
revive mount-0 || bad "xtfs start mount-0: $(tail -n 2 "$work/start.out")"
touch "$work/held.go"
wait $pid && ok "a file that is open since before kill -9 of the mount lives on without a name" || bad "a file that is open since before kill -9 of the mount: $(tail -n 1 "$work/held.err")"
# Names are changed as in a local directory while the mount, and the leader, are killed.
for n in $(seq "$(sized 4 1)"); do
  timeout -k 5 200 python3 "$here/names.py" "$mnt/names-$n" "$work/names-$n" --seed "$n" --seconds "$(sized 30 12)" >"$work/names.out" 2>&1 </dev/null &
  pid=$!
  for kill in $(seq "$(sized 12 4)"); do
    sleep 1.5
    murder mount-0
    revive mount-0 || bad "xtfs start mount-0: $(tail -n 2 "$work/start.out")"
    [ $((kill % 3)) = 0 ] && { leader=$(leader_of mrc); murder "$leader"; revive "$leader" || bad "xtfs start $leader"; }
  done
  wait $pid && ok "names under kill -9 of mount and MRC leader, $n: $(cat "$work/names.out")" || bad "names under kills, $n: $(head -c 3000 "$work/names.out")"
done
for n in $(seq "$(sized 4 2)"); do
  writer "$mnt/both-$n" 30 "$work/both-$n"
  pid=$!
  sleep 1.5
  kill -STOP $pid
  leader=$(leader_of mrc)
  murder "$leader"; murder mount-0
  revive "$leader" || bad "xtfs start $leader"
  revive mount-0 || bad "xtfs start mount-0: $(tail -n 2 "$work/start.out")"
  kill -9 $pid; wait $pid 2>/dev/null
  check "kill -9 of mount and MRC leader, $n" 40 python3 "$here/unsynced-write.py" --check "$mnt/both-$n" "$work/both-$n"
done
# A mount lives on where another namespace has a copy of it, and keeps its memory; the next one at its place has some too.
again=$work/again; mkdir "$again"
volume="xtfs://$(jq -r '"\(.dir)/\(.volume)"' "$work/up.json")"
export again volume
behind='"$XTFS" mount "$volume" "$again" >/dev/null && grep -qx "writeback true" "$again/.xtfs/config"'
check_sh "a mount at another place" 20 "$behind"
unshare -m --propagation private sleep 30 </dev/null >/dev/null 2>&1 &
copy=$!
sleep 0.5
umount "$again"
check_sh "the next mount there writes behind too, while the one before lives on" 20 "$behind"
echo kept >"$again/from-again"
umount "$again"
kill $copy; wait $copy 2>/dev/null
check_sh "what was written there arrived" 10 'grep -qx kept "$mnt/from-again"'
down && ok "down" || bad "down: $(tail -n 1 "$work/down.out")"

# One process: the kernel's side dies with it.
data=$work/one; mnt=$data/mnt
must_up --no-exec
# close(2) is answered while what was written is on its way when the OSDs have told that they have room.
sleep 4
check "what stat says after close(2) stays so" 60 python3 "$here/closed-files.py" --steady "$mnt/steady" "$(sized 500 100)"
for n in $(seq "$(sized 6 3)"); do
  sleep 2
  python3 "$here/closed-files.py" "$mnt/closed-$n" "$work/closed-$n" 2>/dev/null </dev/null &
  pid=$!
  slay_all
  check "kill -9 of everything: every closed file is whole, $n" 60 python3 "$here/closed-files.py" --check "$mnt/closed-$n" "$work/closed-$n"
done
for n in $(seq "$(sized 4 2)"); do
  writer "$mnt/all-$n" 30 "$work/all-$n"
  pid=$!
  slay_all
  check "kill -9 of everything, $n" 40 python3 "$here/unsynced-write.py" --check "$mnt/all-$n" "$work/all-$n"
done
# That of this instance: others may run beside it.
stage=$(readlink /proc/"$(jq -r .pid "$work/up.json")"/fd/* 2>/dev/null | grep -m1 '^/dev/shm/xtfs-.*stage')
[ -e "$stage" ] || bad "the mount has no stage"
check_sh "nothing is left in memory after an unmount" 30 '"$XTFS" down --data "$data" >/dev/null; ! grep -qsF "$data" /proc/self/mounts && [ ! -e "'"$stage"'" ]'
finish
