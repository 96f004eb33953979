#!/usr/bin/env bash
# The spool: what is dropped runs once, what is malformed is told why, and a killed exec loses and repeats nothing.
. "$(dirname "$0")/instance.sh"
must_up --separate
export here
for _ in $(seq 100); do [ -d "$spool/new" ] && break; sleep 0.1; done
check_sh "the spool of the user has its folders" 10 'for d in tmp new run hold done failed rejected; do test -d "$spool/$d" || { echo "no $d"; exit 1; }; done'

# waits SECONDS GLOB: until something matches.
waits() { for _ in $(seq $(($1 * 10))); do compgen -G "$2" >/dev/null && return 0; sleep 0.1; done; echo "nothing matches $2"; ls -R "$spool" | head -40; return 1; }
export -f waits

printf 'exec = "/bin/echo"\nargs = ["hello", "from the spool"]\n' >"$spool/tmp/hello.toml"
start=$(now_ms)
mv "$spool/tmp/hello.toml" "$spool/new/"
check_sh "a dropped job is done, with its result" 20 'waits 15 "$spool/done/hello.toml~*.result.json"'
echo "     $(($(now_ms) - start)) ms from the drop to the result"
check_sh "the result says so" 10 'cat "$spool"/done/hello.toml~*.result.json && jq -e "tostring | test(\"\\\"exit[a-z_]*\\\":0|exit_code\\\":0|\\\"code\\\":0|\\\"status\\\":0\")" "$spool"/done/hello.toml~*.result.json'
check_sh "its output is kept" 10 'grep -rqs "hello from the spool" "$spool"/jobs/*/ "$spool"/done/ "$spool"/'
check_sh "the descriptor lies beside it, untouched" 10 'f=$(ls "$spool"/done/hello.toml~* | grep -v "result.json$"); grep -q "from the spool" "$f"'

printf 'exec = "/bin/false"\n' >"$spool/tmp/false.toml" && mv "$spool/tmp/false.toml" "$spool/new/"
check_sh "a job that fails lies in failed" 20 'waits 15 "$spool/failed/false.toml~*.result.json"'
printf 'exec = "/bin/echo"\nargz = ["x"]\n[resources\n' >"$spool/tmp/broken.toml" && cp "$spool/tmp/broken.toml" "$work/" && mv "$spool/tmp/broken.toml" "$spool/new/"
check_sh "a malformed one lies in rejected, with its bytes" 20 '
  waits 15 "$spool/rejected/broken.toml~*[0-9]" && f=$(ls "$spool"/rejected/broken.toml* | grep -v "\.error") && cmp "$work/broken.toml" "$f"'
check_sh "its error names line, column and cause" 10 'cat "$spool"/rejected/broken.toml*.error; grep -qE ":[0-9]+:[0-9]+:" "$spool"/rejected/broken.toml*.error'
printf 'exec = "/bin/echo"\nargz = ["x"]\n' >"$spool/new/typo.toml"
check_sh "a misspelt key is named, with the right one" 20 'waits 15 "$spool/rejected/typo.toml*.error" && grep -q "argz" "$spool"/rejected/typo.toml*.error && grep -q "args" "$spool"/rejected/typo.toml*.error'
printf '#!/bin/sh\n#XOS name = script\necho scripted\n' >"$spool/tmp/s.sh" && mv "$spool/tmp/s.sh" "$spool/new/"
check_sh "a script is a job" 20 'waits 15 "$spool/done/s.sh~*.result.json"'

# Many at once, by every way of dropping, exec killed in the middle. Each job leaves one line in a file of its own.
count=$(sized 1000 120)
mkdir "$work/witness"
export count
drop() {
  local number=$1 body
  body=$(printf 'exec = "/bin/sh"\nargs = ["-c", "echo started >>%s/%d; exit %d"]\n' "$work/witness" "$number" $((number % 20 == 5 ? 3 : 0)))
  [ $((number % 20)) = 7 ] && body='exec = [not toml'
  case $((number % 3)) in
    0) echo "$body" >"$spool/tmp/m$number.toml" && mv "$spool/tmp/m$number.toml" "$spool/new/m$number.toml" ;;
    1) echo "$body" >"$work/c$number" && cp "$work/c$number" "$spool/new/m$number.toml" ;;
    2) { echo "${body%%$'\n'*}"; sleep 0.2; [ "$body" = "${body#*$'\n'}" ] || echo "${body#*$'\n'}"; } >"$spool/new/m$number.toml" ;;
  esac
}
export -f drop
(seq "$count" | xargs -P 8 -I{} bash -c 'drop {}') >"$work/drop.out" 2>&1 &
dropper=$!
sleep "$(sized 8 2)"
murder exec-0 && ok "kill -9 of exec-0 with $(ls "$work/witness" | wc -l) jobs started"
sleep 1
revive exec-0 && ok "xtfs start exec-0" || bad "xtfs start exec-0: $(tail -n 2 "$work/start.out")"
wait $dropper && ok "$count descriptors dropped" || bad "dropping failed: $(tail -n 2 "$work/drop.out")"

ended() { ls "$spool/done" "$spool/failed" "$spool/rejected" 2>/dev/null | grep -E '^m[0-9]+\.toml.*\.(result\.json|error)$' | sed 's/\.toml.*//' | sort -u | wc -l; }
limit=$(sized 600 120)
for _ in $(seq "$limit"); do [ "$(ended)" -ge "$count" ] && break; sleep 1; done
[ "$(ended)" = "$count" ] && ok "all $count ended" || bad "$(ended) of $count ended after $limit s; new $(ls "$spool/new" | wc -l), run $(ls "$spool/run" | wc -l)"
check_sh "each has exactly one record" 60 '
  ls "$spool/done" "$spool/failed" "$spool/rejected" | grep -E "^m[0-9]+\.toml.*\.(result\.json|error)$" | sed "s/\.toml.*//" | sort | uniq -d >"$work/twice"
  test ! -s "$work/twice" || { echo "recorded twice:"; head "$work/twice"; exit 1; }'
check_sh "none started twice" 60 '
  cd "$work/witness" && for f in *; do test "$(wc -l <"$f")" = 1 || { echo "job $f started $(wc -l <"$f") times"; exit 1; }; done'
check_sh "the malformed ones were rejected and nothing else" 60 '
  for n in $(seq "$count"); do
    r=$(compgen -G "$spool/rejected/m$n.toml*.error" | wc -l)
    if [ $((n % 20)) = 7 ]; then test "$r" = 1 || { echo "m$n not rejected"; exit 1; }
    else test "$r" = 0 || { echo "m$n rejected:"; cat "$spool"/rejected/m$n.toml*.error; exit 1; }; fi
  done'
check_sh "what ended well started once" 60 '
  for f in "$spool"/done/m*.result.json; do n=${f##*/m}; n=${n%%.toml*}; test -e "$work/witness/$n" || { echo "m$n is done and never ran"; exit 1; }; done'
check_sh "nothing is left in new and run" 10 'test -z "$(ls "$spool/new" "$spool/run" | grep "^m[0-9]")"'
finish
