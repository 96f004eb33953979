#!/usr/bin/env bash
# Two copies by policy `all`: every answered write is on both. One OSD dies or hangs: its copies lose their vote and writing goes on; it comes back: they
# are filled and vote again. Then the other one dies, and what was written meanwhile is read from the one that came back.
. "$(dirname "$0")/instance.sh"
must_up --separate --dirs 1 --mrcs 1 --osds 2 --replicas 2 --no-exec

# counts FILE: how many copies of the file count, and have everything: "2 2".
counts() {
  timeout 20 "$XTFS" replica ls "$1" --json 2>/dev/null | jq -r '"\([.replicas[] | select(.votes)] | length) \([.replicas[] | select(.in_sync == true)] | length)"'
}
# until_counts FILE WHAT TENTHS
until_counts() {
  for _ in $(seq "$3"); do [ "$(counts "$1")" = "$2" ] && return 0; sleep 0.1; done
  echo "votes and copies in sync: $(counts "$1") instead of $2"; return 1
}
export -f counts until_counts
export mnt work XTFS

check_sh "the policy of two copies is all" 20 'echo x >"$mnt/first"; "$XTFS" info "$mnt/first" --json | jq -e ".layout.replication == \"all\""'
check_sh "both copies count" 20 "until_counts $mnt/first '2 2' 100"

# What was written in each round, to be read when the other OSD is the only one.
files=$(sized 40 10)
round() {
  local kind=$1 victim=$2 other=$3 pid writer longest
  python3 "$here/stall-write.py" "$mnt/stall-$kind-$victim" 8 >"$work/stall.out" 2>&1 </dev/null & writer=$!
  sleep 2
  pid=$(pid_of "$victim")
  case $kind in kill) kill -9 "$pid" ;; stop) kill -STOP "$pid" ;; esac
  export dir=$mnt/$kind-$victim; mkdir "$dir"
  check_sh "$kind of $victim: $files synced files are written meanwhile" 60 "for i in \$(seq $files); do head -c 150000 /dev/urandom >\"\$dir/\$i\" && sync \"\$dir/\$i\" || exit 1; done; (cd \"\$dir\"; sha256sum *) >\"\$work/sums\""
  wait $writer || bad "$kind of $victim: the writer failed: $(cat "$work/stall.out")"
  read -r longest _ <"$work/stall.out"
  [ "$longest" -le 5000 ] && ok "$kind of $victim: the longest overwrite took $longest ms" || bad "$kind of $victim: an overwrite took $longest ms; limit 5000"
  check_sh "$kind of $victim: its copy does not count" 20 "until_counts $mnt/stall-$kind-$victim '1 1' 100"
  case $kind in
    kill) revive "$victim" || bad "xtfs start $victim: $(tail -n 2 "$work/start.out")" ;;
    stop) kill -CONT "$pid" ;;
  esac
  check_sh "$kind of $victim: back, its copy has everything and counts" 70 "until_counts $mnt/stall-$kind-$victim '2 2' 600"
  # All of them: a copy that does not vote yet serves nobody alone.
  check_sh "$kind of $victim: so do those of all files" 90 "for i in \$(seq $files); do until_counts $dir/\$i '2 2' 600 || exit 1; done"
  murder "$other" || bad "no $other"
  check_sh "$kind of $victim: without $other every byte is there" 60 'echo 3 >/proc/sys/vm/drop_caches; cd "$dir" && sha256sum -c --quiet "$work/sums"'
  revive "$other" || bad "xtfs start $other: $(tail -n 2 "$work/start.out")"
  # What was opened for reading only has lost a vote as well, where the dead one led.
  check_sh "$kind of $victim: all count again" 90 "for i in \$(seq $files); do until_counts $dir/\$i '2 2' 600 || exit 1; done"
}
round kill osd-0 osd-1
round kill osd-1 osd-0
round stop osd-0 osd-1
# Whoever leads now has heard from whoever led before (in a view above the first it did not, for 30 s).
check_sh "nothing is out of sync" 20 'for _ in $(seq 20); do "$XTFS" status --dir "$(jq -r .dir "$work/up.json" | sed s,tcp://,,g)" --json | jq -e .replication.in_sync >/dev/null && exit 0; sleep 0.5; done; exit 1'
murder osd-0 && murder osd-1
timeout 60 bash -c 'echo late >>"$mnt/first" && sync "$mnt/first"' 2>"$work/late.err" </dev/null & writer=$!
sleep 1
revive osd-0 || bad "xtfs start osd-0"
revive osd-1 || bad "xtfs start osd-1"
wait $writer && ok "a write waits while there is no copy" || bad "a write while there is no copy: $(cat "$work/late.err")"
check_sh "and is there" 20 'grep -qx late "$mnt/first"'
check_sh "all is served again" 60 'until echo again >"$mnt/again"; do sleep 1; done; sync "$mnt/again"'
check "down" 60 "$XTFS" down --data "$data"
finish
