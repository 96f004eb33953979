#!/usr/bin/env bash
# The trash on a replicated cluster: what is removed comes back, goes when its time is over, and survives the MRC leader.
. "$(dirname "$0")/instance.sh"
[ "$(id -u)" = 0 ] || { ok "skipped: needs root to set the trash"; finish; }
must_up --separate --mrcs 3 --no-exec
export volume=$mnt
check_sh "nothing is kept at first" 30 'echo x >"$mnt/f" && rm "$mnt/f" && "$XTFS" trash ls "$mnt" | grep -q "nothing is kept"'
check_sh "keep" 30 '"$XTFS" trash keep "$mnt" 1d --dry-run && "$XTFS" trash ls "$mnt" | grep -q "nothing is kept" && "$XTFS" trash keep "$mnt" 1d'
mkdir -p "$mnt/w/deep/er" "$mnt/pub" && chmod 777 "$mnt/pub" && chmod 2750 "$mnt/w/deep"
for n in 1 2 3; do echo "content $n" >"$mnt/w/deep/er/f$n"; done
ln -s er/f1 "$mnt/w/deep/link"
check_sh "rm -r puts everything there" 60 'rm -r "$mnt/w/deep" && [ ! -e "$mnt/w/deep" ] && [ "$("$XTFS" trash ls "$mnt/w" --json | jq length)" = 6 ]'
check_sh "a file alone needs its directory" 30 'out=$("$XTFS" trash restore "$mnt/w/deep/er/f1" 2>&1); [ $? = 1 ] && grep -q "is not there" <<<"$out" || { echo "$out"; exit 1; }'
check_sh "the whole tree comes back" 60 '"$XTFS" trash restore "$mnt/w/deep" && for n in 1 2 3; do [ "$(cat "$mnt/w/deep/er/f$n")" = "content $n" ] || exit 1; done && [ "$(cat "$mnt/w/deep/link")" = "content 1" ] && [ "$(stat -c %a "$mnt/w/deep")" = 2750 ]'
check_sh "and is not in the trash any more" 30 '[ "$("$XTFS" trash ls "$mnt/w" --json | jq length)" = 0 ]'
check_sh "what is replaced is kept; restoring does not overwrite" 60 'echo old >"$mnt/w/r" && echo new >"$mnt/w/r.tmp" && mv "$mnt/w/r.tmp" "$mnt/w/r" && out=$("$XTFS" trash restore "$mnt/w/r" 2>&1); [ $? = 1 ] && grep -q "exists" <<<"$out" && [ "$(cat "$mnt/w/r")" = new ] && mv "$mnt/w/r" "$mnt/w/r2" && "$XTFS" trash restore "$mnt/w/r" && [ "$(cat "$mnt/w/r")" = old ]'
check_sh "a file that is removed while it is open goes on" 30 'exec 9<>"$mnt/w/open"; echo first >&9; rm "$mnt/w/open"; echo second >&9; exec 9>&-; "$XTFS" trash restore "$mnt/w/open" && [ "$(cat "$mnt/w/open")" = "$(printf "first\nsecond")" ]'
check_sh "everybody has his own" 60 'setpriv --reuid 4001 --regid 4001 --clear-groups bash -c "echo mine >\"$mnt/pub/mine\" && rm \"$mnt/pub/mine\"" && [ "$(setpriv --reuid 4002 --regid 4002 --clear-groups "$XTFS" trash ls "$mnt/pub" --json | jq length)" = 0 ] && setpriv --reuid 4001 --regid 4001 --clear-groups "$XTFS" trash restore "$mnt/pub/mine" && [ "$(stat -c %u "$mnt/pub/mine")" = 4001 ] && ! setpriv --reuid 4001 --regid 4001 --clear-groups ls "$mnt/.xtfs-trash" 2>/dev/null'
rm "$mnt/w/deep/er/f2"
murder "$(leader_of mrc)"
check_sh "a new leader knows it" 90 '"$XTFS" trash restore "$mnt/w/deep/er/f2" && [ "$(cat "$mnt/w/deep/er/f2")" = "content 2" ]'
check_sh "empty asks, and removes for good" 60 'rm "$mnt/w/deep/er/f3"; "$XTFS" trash empty "$mnt/w" </dev/null 2>/dev/null; [ $? = 2 ] && "$XTFS" trash empty "$mnt/w/deep" --yes && [ "$("$XTFS" trash ls "$mnt/w/deep" --json | jq length)" = 0 ]'
check_sh "what is old goes by itself" 60 'echo x >"$mnt/w/short" && rm "$mnt/w/short" && "$XTFS" trash keep "$mnt" 2s && for _ in $(seq 100); do [ "$("$XTFS" trash ls "$mnt" --json | jq length)" = 0 ] && exit 0; sleep 0.2; done; "$XTFS" trash ls "$mnt"; exit 1'
check_sh "fsck finds nothing" 60 '"$XTFS" fsck "$mnt"'
check_sh "off" 30 '"$XTFS" trash keep "$mnt" off --yes && echo x >"$mnt/w/gone" && rm "$mnt/w/gone" && [ "$("$XTFS" trash ls "$mnt" --json | jq length)" = 0 ]'
finish
