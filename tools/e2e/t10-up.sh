#!/usr/bin/env bash
# `xtfs up` with no flag: quick, resumable, loses nothing, says what the contract says.
. "$(dirname "$0")/instance.sh"

start=$(now_ms)
up && echo first >"$mnt/first"
elapsed=$(($(now_ms) - start))
if [ -f "$mnt/first" ]; then ok "first write after $elapsed ms"; else bad "no first write"; finish; fi
[ "$elapsed" -le 3000 ] && ok "first write within 3 s" || bad "first write took $elapsed ms, limit 3000"

for field in mount volume spool http dir pid; do
  jq -e --arg f "$field" '.[$f] | . != null and . != "" and . != []' "$work/up.json" >/dev/null &&
    ok "up --json has $field" || bad "up --json lacks $field: $(cat "$work/up.json")"
done
[ "$(jq -r .mount "$work/up.json")" -ef "$mnt" ] && ok "the mount is where it is said to be" || bad "mount path"
[ "$(jq -r .volume "$work/up.json")" = default ] && ok "the volume is called default" || bad "volume name"
check "spool is there" 5 test -d "$(jq -r .spool "$work/up.json")"

check_sh "ps --json has the fields" 10 '
  "$XTFS" ps --data "$data" --json | jq -e "length >= 3 and all(.[]; has(\"name\") and has(\"role\") and has(\"pid\")
    and has(\"uuid\") and has(\"addr\") and has(\"http\") and has(\"state\") and has(\"leader\"))"'
check_sh "ps names dir-0, mrc-0, osd-0" 10 '
  "$XTFS" ps --data "$data" --json | jq -e "[.[].name] | contains([\"dir-0\", \"mrc-0\", \"osd-0\"])"'
check_sh "one process" 10 'test "$("$XTFS" ps --data "$data" --json | jq "[.[].pid] | unique | length")" = 1'
http=$(jq -r .http "$work/up.json"); export http
check_sh "healthz answers" 10 'curl -sf "${http%/}/healthz"'
check_sh "metrics are Prometheus text" 10 'curl -sf "${http%/}/metrics" | grep -c "^# TYPE "'
check_sh "lsfs shows the volume" 10 '"$XTFS" ls "$(jq -r "(.dir | if type == \"array\" then join(\",\") else . end)" "$work/up.json")" --json | jq -e "tostring | contains(\"default\")"'
check_sh "df and stat see the mount" 10 'df "$mnt" && stat -f "$mnt" && stat "$mnt/first"'

# Everything acknowledged must be there afterwards: written and closed, written and open, renamed, removed.
check_sh "write a tree" 60 '
  mkdir -p "$mnt/a/b/c" && for i in $(seq 200); do echo "content $i" >"$mnt/a/b/f$i"; done
  mv "$mnt/a/b/f1" "$mnt/a/b/c/moved" && rm "$mnt/a/b/f2" && ln -s ../f3 "$mnt/a/b/c/link" && ln "$mnt/a/b/f4" "$mnt/a/hard"
  head -c 5000000 /dev/urandom >"$work/big" && cp "$work/big" "$mnt/big" && chmod 640 "$mnt/big"'
manifest() { (cd "$mnt" && find a big first -printf '%p %y %m %n %s %l\n' | sort && find a big first -type f -print0 | sort -z | xargs -0 sha256sum); }
export -f manifest
timeout 60 bash -c manifest >"$work/before"

check "a second up on a running instance does no harm" 30 bash -c '"$XTFS" up --detach --data "$data" >/dev/null 2>&1; cat "$mnt/first"'
old=$(jq -r .pid "$work/up.json")
check "down" 60 "$XTFS" down --data "$data"
grep -qsF " $mnt " /proc/self/mounts && bad "still mounted after down" || ok "unmounted"
for _ in $(seq 50); do [ -d "/proc/$old" ] || break; sleep 0.1; done
[ -d "/proc/$old" ] && bad "process $old runs after down" || ok "the process is gone"

start=$(now_ms)
up
echo second >"$mnt/second" && took=$(($(now_ms) - start)) || took=99999
# Longer than a lease would mean that somebody is waited for who had said good-bye.
[ "$took" -le 3000 ] && ok "up resumes, first write after $took ms" || bad "up resumes: first write after $took ms, not within 3 s"
timeout 60 bash -c manifest >"$work/after"
check "nothing was lost by down" 5 diff "$work/before" "$work/after"

# The whole process killed at once: what was acknowledged survives.
( for i in $(seq 20000); do echo "$i" >"$mnt/a/k$i" || break; echo "$i" >>"$work/acked"; done ) 2>/dev/null &
writer=$!
sleep 1
kill -9 "$(jq -r .pid "$work/up.json")"
wait $writer 2>/dev/null
umount -l "$mnt" 2>/dev/null
begin=$(now_ms)
up && echo again >"$mnt/a/again" && took=$(($(now_ms) - begin)) && ok "the instance comes back" || bad "the instance does not come back: $(tail -n 3 "$work/up.err")"
# Sessions of the processes that died are ended by their successors: nobody waits until their leases have run out (6.5 s).
[ "${took:-9999}" -le 3000 ] && ok "the first write $took ms after its start" || bad "the first write after ${took:-?} ms, limit 3000"
rm -f "$mnt/a/again"
check_sh "$(wc -l <"$work/acked") files acknowledged before kill -9 are there" 60 '
  while read -r i; do [ "$(cat "$mnt/a/k$i")" = "$i" ] || { echo "lost k$i"; exit 1; }; done <"$work/acked"'
timeout 60 bash -c manifest | grep -v '/k[0-9]*\b' >"$work/after"
check "the older files are as they were" 5 diff <(grep -v '^a d' "$work/before") <(grep -v '^a d' "$work/after")
finish
