#!/usr/bin/env bash
# A client killed for good while it holds leases in a directory, and the MRC leader killed a few seconds later: the new
# leader knows only that somebody may hold something, waits for the time of a lease, and lets others change it.
. "$(dirname "$0")/instance.sh"
must_up --separate --dirs 1 --mrcs 3 --osds 3 --no-exec

# Both limits in milliseconds. A lease of 6 s and its margin of 0.5 s have to be waited for once somebody leads; before
# that comes the election (raft: 0.5 to 1 s).
limit=7000
total_limit=8000

# mount_again N: a mount of its own process, which nobody takes up when it dies.
mount_again() {
  second=$work/second$1
  mkdir "$second"
  timeout 60 "$XTFS" mount --json "xtfs://$(jq -r .dir "$work/up.json")/default" "$second" >"$work/second.json" || { bad "a second mount"; finish; }
  client=$(jq -r .pid "$work/second.json")
  echo "$client" >>"$work/pids"
}

# round N SECONDS: so long after the client's death the leader dies.
round() {
  local n=$1 pause=$2 leader next killed led begun ended
  export folder=$mnt/d$n
  mkdir "$folder"
  mount_again "$n"
  check_sh "round $n: the client to be killed makes files and keeps what it read" 30 \
    'for i in $(seq 20); do echo "kept $i" >"'"$second/d$n"'/a$i" || exit 1; done; ls -l "'"$second/d$n"'" && cat "'"$second/d$n"'"/a*'
  leader=$(leader_of mrc)
  kill -9 "$client"
  sleep "$pause"
  murder "$leader"
  killed=$(now_ms)
  # The longest time is the question, so it is asked at once, and not only when a new leader is there.
  timeout 60 bash -c 'echo made >"$folder/new" && date +%s%3N' >"$work/create.out" 2>&1 </dev/null &
  local create=$!
  next=
  for _ in $(seq 100); do next=$(leader_of mrc); [ -n "$next" ] && [ "$next" != "$leader" ] && break; next=; sleep 0.05; done
  led=$(now_ms)
  [ -n "$next" ] || bad "round $n: nobody leads after $leader"
  if wait $create; then
    ended=$(cat "$work/create.out")
    local text="round $n: client dead for $pause s, $leader killed: a create took $((ended - led)) ms once $next led, $((ended - killed)) ms in all"
    [ $((ended - led)) -le $limit ] && [ $((ended - killed)) -le $total_limit ] && ok "$text" || bad "$text; limits $limit and $total_limit"
  else
    bad "round $n: the create failed: $(tail -n 2 "$work/create.out")"
  fi
  check_sh "round $n: the next changes do not wait" 2 'for i in $(seq 5); do mkdir "$folder/more$i" || exit 1; done'
  check_sh "round $n: nothing is lost" 30 \
    'for i in $(seq 20); do [ "$(cat "$folder/a$i")" = "kept $i" ] || { echo "a$i"; exit 1; }; done; [ "$(cat "$folder/new")" = made ] && [ "$(ls "$folder" | wc -l)" = 26 ]'
  umount -l "$second" 2>/dev/null || fusermount3 -uz "$second"
  revive "$leader" || bad "xtfs start $leader: $(tail -n 2 "$work/start.out")"
}

n=0
for pause in $(sized "0.2 1 3 5 10" "0.2 3"); do
  n=$((n + 1))
  round $n "$pause"
done
finish
