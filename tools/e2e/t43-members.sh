#!/usr/bin/env bash
# All members of the MRC group, then all of the DIR, replaced by new ones under a load on the mount: no error, nothing
# acknowledged is lost, nobody has to be restarted. And what must not be done is refused in words.
. "$(dirname "$0")/instance.sh"
must_up --separate --dirs 3 --mrcs 3 --osds 3 --no-exec
export here

# An idle mount beside the busy one: it must hear of the new members too.
second=$work/second
mkdir "$second"
timeout 60 "$XTFS" mount --json "xtfs://$(jq -r .dir "$work/up.json")/default" "$second" >"$work/second.json" || { bad "a second mount"; finish; }
jq -r .pid "$work/second.json" >>"$work/pids"

members() { timeout 30 "$XTFS" "$1" members --json --data "$data"; }

# refused NAME TEXT SECONDS COMMAND...: the command fails, in time, and says TEXT.
refused() {
  local name=$1 text=$2 limit=$3
  shift 3
  if timeout -k 5 "$limit" "$@" >"$work/out" 2>&1 </dev/null; then
    bad "$name: done, it should be refused"
  elif [ $? -lt 124 ] && grep -q "$text" "$work/out"; then
    ok "$name: $(tr '\n' ' ' <"$work/out" | cut -c1-160)"
  else
    bad "$name: $(tail -n 4 "$work/out")"
  fi
}

for n in 1 2; do
  python3 "$here/load.py" run "$mnt/load$n" "$work/end" "$work/load$n" >"$work/load$n.out" 2>"$work/load$n.err" </dev/null &
  loads="${loads:-} $!"
done
sleep 2

for role in mrc dir; do
  for index in 0 1 2; do
    begin=$(now_ms)
    check "$role-$index is replaced by a new process" 60 "$XTFS" "$role" replace "$role-$index" --yes --data "$data" --timeout 45
    remember
    echo "     $(cat "$work/out") ($(($(now_ms) - begin)) ms)"
    sleep "$(sized 2 0.5)"
  done
  export role
  check_sh "three new ${role}s vote, none of the old ones is there" 20 '
    for _ in $(seq 80); do
      "$XTFS" "$role" members --json --data "$data" >"$work/members.json" &&
        jq -e "length == 3 and all(.[]; .votes and .error == null) and ([.[] | select(.leader)] | length) == 1" "$work/members.json" >/dev/null &&
        ! grep -qE "$role-[012]\"" "$work/members.json" && exit 0
      sleep 0.2
    done; jq -c ".[] | [.name, .member, .role, .error]" "$work/members.json"; exit 1'
  check_sh "ps knows them" 10 '[ "$("$XTFS" ps --data "$data" --json | jq -c "[.[] | select(.role == \"$role\" and .pid != null)] | length")" = 3 ]'
done
# What hears of members only now and then has had its time; what is left of the old ones is nobody's any more.
sleep 3

touch "$work/end"
for load in $loads; do
  for _ in $(seq 300); do kill -0 "$load" 2>/dev/null || break; sleep 0.1; done
  kill -9 "$load" 2>/dev/null && bad "a load hangs"
done
for n in 1 2; do
  read -r longest count errors <"$work/load$n.out" || { longest=- count=0 errors=unknown; }
  [ "$errors" = 0 ] && ok "load $n: $count operations, no error, the longest $longest ms" || bad "load $n: $count operations, errors: $errors: $(tail -n 3 "$work/load$n.err")"
  check "load $n: everything acknowledged is there" 120 python3 "$here/load.py" verify "$mnt/load$n" "$work/load$n"
  echo "     $(tail -n 1 "$work/out")"
done
check_sh "the idle mount goes on" 20 'echo idle >"'"$second"'/idle" && [ "$(cat "$mnt/idle")" = idle ]'
check "an OSD is started with the new DIRs" 40 "$XTFS" restart osd-1 --data "$data"
check "a mount process too" 40 "$XTFS" restart mount-0 --data "$data"
check_sh "and works" 30 'echo again >"$mnt/again" && [ "$(cat "$mnt/again")" = again ]'
check_sh "status has no complaint" 40 '
  for _ in $(seq 100); do
    "$XTFS" status --dir "$("$XTFS" ps --data "$data" --json | jq -r "[.[] | select(.role == \"dir\") | .addr | sub(\"tcp://\"; \"\")] | join(\",\")")" --json >"$work/status.json" && jq -e ".health == \"ok\"" "$work/status.json" >/dev/null && exit 0
    sleep 0.3
  done; jq -c .troubles "$work/status.json"; exit 1'

# leadership can be moved, and back
other=$(members mrc | jq -r 'map(select(.leader | not)) | .[0].name')
check "leadership goes to $other" 20 "$XTFS" mrc transfer "$other" --data "$data"
[ "$(leader_of mrc)" = "$other" ] && ok "$other leads" || bad "$(leader_of mrc) leads, not $other"

first=$(members mrc | jq -r '.[0].name') addr=$(members mrc | jq -r '.[0].addr')
refused "adding one that is there" "in the group already" 20 "$XTFS" mrc add "$addr" --data "$data"
refused "removing one that is not there" "none of that number" 20 "$XTFS" mrc remove mrc-77 --yes --data "$data"
refused "removing without being asked" "say --yes" 20 "$XTFS" mrc remove "$first" --data "$data"
check "a dry run changes nothing" 20 "$XTFS" mrc remove "$first" --dry-run --json --data "$data"
[ "$(members mrc | jq length)" = 3 ] && ok "three are there" || bad "a dry run removed a member"
names=($(members mrc | jq -r '.[].name'))
check "a member is stopped" 20 "$XTFS" stop "${names[0]}" --data "$data"
sleep 1
refused "removing one without whom there is no majority" "no majority" 20 "$XTFS" mrc remove "${names[1]}" --yes --data "$data"
check "a member is added while one is down" 60 "$XTFS" mrc add --data "$data" --timeout 45
remember
check "the one that is down is removed" 30 "$XTFS" mrc remove "${names[0]}" --yes --data "$data"
names=($(members mrc | jq -r '.[].name'))
for name in "${names[0]}" "${names[1]}"; do murder "$name"; done
sleep 1
refused "adding without a majority" "no majority" 15 "$XTFS" mrc add --data "$data"
for name in "${names[0]}" "${names[1]}"; do revive "$name" || bad "xtfs start $name: $(tail -n 2 "$work/start.out")"; done
for _ in $(seq 100); do [ -n "$(leader_of mrc)" ] && break; sleep 0.2; done
for name in "${names[0]}" "${names[1]}"; do check "$name is removed" 40 "$XTFS" mrc remove "$name" --yes --data "$data"; done
refused "removing the last one" "only MRC member" 20 "$XTFS" mrc remove "${names[2]}" --yes --data "$data"
check_sh "one is enough" 30 'echo alone >"$mnt/alone" && [ "$(cat "$mnt/again" "$mnt/alone" | tr "\n" " ")" = "again alone " ]'
umount "$second" 2>/dev/null || fusermount3 -u "$second"
check "down" 60 "$XTFS" down --data "$data"
must_up
check_sh "everything is there in the next run" 60 '[ "$(cat "$mnt/alone")" = alone ]'
finish
