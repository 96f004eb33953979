#!/usr/bin/env bash
# Files of a volume with `--ec 2+1` are encoded, written again and read while RMS, MRC leaders and OSDs are killed: no error, no
# wrong byte, and in the end everything is encoded.
export XTFS_EC_QUIET_MS=${XTFS_EC_QUIET_MS:-300}
. "$(dirname "$0")/instance.sh"
must_up --separate --dirs 1 --mrcs 3 --osds 5 --replicas 3 --no-exec
dirs=$(jq -r .dir "$work/up.json" | sed 's,tcp://,,g')
url=xtfs://$(printf %s "$dirs" | cut -d, -f1)/coded
export here dirs url
m=$work/ec
export m
mkdir -p "$m"
check "mkfs --ec 2+1" 30 "$XTFS" mkfs "$url" --ec 2+1 --replicas 3 --stripe-size 256K --dir "$dirs"
check "mount" 60 timeout -k 5 40 "$XTFS" mount "$url" "$m" --dir "$dirs"
cat >"$work/load.py" <<'PY'
"""Writes files over in part and whole, leaves each alone long enough to be encoded, reads what must be there."""
import os, random, sys, time
folder, end, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
dice, model, done, wrong = random.Random(seed), {}, 0, 0
path = lambda n: os.path.join(folder, f"s{seed}-{n}")
def look(n):
    global wrong
    found = open(path(n), "rb").read()
    if found != bytes(model[n]):
        wrong += 1
        at = next((i for i, (a, b) in enumerate(zip(found, model[n])) if a != b), min(len(found), len(model[n])))
        print(f"{path(n)}: {len(found)} bytes for {len(model[n])}, differs at {at}", file=sys.stderr, flush=True)
while not os.path.exists(end):
    n = dice.randrange(150)
    kind = dice.choice(["whole", "part", "part", "append", "cut", "read", "read", "read"]) if n in model else "whole"
    if kind == "whole":
        model[n] = bytearray(dice.randbytes(dice.choice([1000, 65536, 200000, 524288, 900001])))
        with open(path(n), "wb") as file: file.write(model[n])
    elif kind in ("part", "append"):
        at = len(model[n]) if kind == "append" else dice.randrange(len(model[n]) + 1)
        more = dice.randbytes(dice.randrange(1, 70000))
        model[n].extend(bytes(max(0, at + len(more) - len(model[n]))))
        model[n][at:at + len(more)] = more
        with open(path(n), "r+b") as file: file.seek(at); file.write(more)
    elif kind == "cut":
        size = dice.randrange(len(model[n]) + 1)
        os.truncate(path(n), size)
        model[n] = model[n][:size]
    else:
        look(n)
    done += 1
    time.sleep(0.02)
for n in model: look(n)
print(f"{done} {wrong}")
with open(end + f".{seed}", "w") as out:
    pass
import pickle
pickle.dump(model, open(sys.argv[4], "wb"))
PY
for seed in 1 2; do
  python3 "$work/load.py" "$m" "$work/end" $seed "$work/model.$seed" >"$work/load.$seed" 2>"$work/load.$seed.err" </dev/null &
  eval "load$seed=\$!"
done
rounds=$(sized 20 6) kills=0
for round in $(seq "$rounds"); do
  sleep 1.5
  for name in rms-0 "$(leader_of mrc)" "osd-$((round % 5))"; do
    [ -n "$name" ] || continue
    murder "$name" && kills=$((kills + 1))
    sleep 0.7
    timeout 60 "$XTFS" start "$name" --data "$data" >"$work/out" 2>&1 || bad "start $name: $(tail -n 2 "$work/out")"
    remember
    # Of three replicas, and of 2+1, one may be away: the next OSD waits.
    case $name in osd-*) for _ in $(seq 150); do timeout 20 "$XTFS" status --dir "$dirs" --json 2>/dev/null | jq -e .replication.in_sync >/dev/null && break; sleep 0.2; done ;; esac
  done
done
touch "$work/end"
for seed in 1 2; do
  pid=load$seed
  for _ in $(seq 900); do kill -0 "${!pid}" 2>/dev/null || break; sleep 0.1; done
  kill -9 "${!pid}" 2>/dev/null && bad "load $seed hangs"
  read -r count wrong <"$work/load.$seed" || { count=0 wrong=unknown; }
  [ "$wrong" = 0 ] && ok "load $seed: $count operations over $kills kills, nothing wrong" || bad "load $seed: $count operations, wrong: $wrong: $(tail -n 3 "$work/load.$seed.err")"
done
export -f murder
check_sh "in the end all files of 64 KiB and more are encoded" 200 'end=$((SECONDS + 90)); while :; do
  left=$(find "$m" -type f -size +65535c | while read -r f; do [ "$("$XTFS" info "$f" --json | jq -r ".layout.ec // \"none\"")" = "2+1" ] || echo "$f"; done)
  [ -z "$left" ] && break; [ $SECONDS -lt $end ] || { echo "not encoded: $left"; "$XTFS" status --dir "$dirs" | grep -i erasure; exit 1; }; sleep 1; done'
cat >"$work/verify.py" <<'PY'
import os, pickle, sys
wrong = 0
for seed in (1, 2):
    for n, want in pickle.load(open(f"{sys.argv[2]}.{seed}", "rb")).items():
        if open(os.path.join(sys.argv[1], f"s{seed}-{n}"), "rb").read() != bytes(want): wrong += 1; print(f"s{seed}-{n} differs")
sys.exit(wrong > 0)
PY
mkdir -p "$work/fresh"
check "a fresh mount" 60 timeout -k 5 40 "$XTFS" mount "$url" "$work/fresh" --dir "$dirs"
check "shows what was written" 60 python3 "$work/verify.py" "$work/fresh" "$work/model"
check "fsck finds nothing" 60 "$XTFS" fsck "$url" --dir "$dirs"
for at in "$work/fresh" "$m"; do timeout -k 5 30 "$XTFS" umount "$at" >/dev/null 2>&1 || umount -l "$at" 2>/dev/null; done
check "down" 60 "$XTFS" down --data "$data"
finish
