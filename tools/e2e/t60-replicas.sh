#!/usr/bin/env bash
# Three copies of every file on four OSDs: fio with checksums (4 KiB at random, 1 MiB in sequence) while one OSD after the other is
# killed with -9 and started again.
. "$(dirname "$0")/instance.sh"
must_up --separate --dirs 1 --mrcs 1 --osds 4 --replicas 3

seconds=$(sized 600 24)
every=$(sized 10 8)
size=$(sized 64m 8m)
mkdir "$mnt/fio"
fio --directory="$mnt/fio" --aux-path="$work" --iodepth=1 --ioengine=psync --direct=1 \
  --verify=crc32c --verify_fatal=1 --do_verify=1 --loops=100000 --runtime="$seconds" --time_based \
  --output-format=json --output="$work/fio.json" \
  --name=random --rw=randwrite --bs=4k --size="$size" --verify_backlog=64 \
  --name=sequence --rw=write --bs=1m --size="$size" --verify_backlog=8 >"$work/fio.out" 2>&1 </dev/null &
fio=$!
python3 "$here/stall-write.py" "$mnt/stall" "$seconds" >"$work/stall.out" 2>&1 </dev/null &
stall=$!

killed=0
until=$((SECONDS + seconds - every / 2))
while [ $SECONDS -lt $until ] && kill -0 $fio 2>/dev/null; do
  name=osd-$((killed % 4))
  sleep $((every / 2))
  murder "$name" && killed=$((killed + 1))
  sleep $((every / 4))
  revive "$name" || bad "xtfs start $name: $(tail -n 2 "$work/start.out")"
  sleep $((every / 4))
done
for _ in $(seq 600); do kill -0 $fio 2>/dev/null || break; sleep 0.2; done
if kill -0 $fio 2>/dev/null; then
  bad "fio still runs"; kill -9 $fio
else
  wait $fio && ok "fio verified everything while $killed OSDs were killed" ||
    { bad "fio failed after $killed kills"; tail -n 8 "$work/fio.out" | cut -c1-300; }
fi
check_sh "fio saw no error" 10 'sed -n "/^{/,\$p" "$work/fio.json" | jq -e "(.jobs | length) == 2 and all(.jobs[]; .error == 0 and (.total_err // 0) == 0)" || { tail -n 20 "$work/fio.json"; exit 1; }'
wait $stall
echo "     longest write, overwrites: $(cat "$work/stall.out")"
check_sh "no write took longer than 5 s" 5 'awk "{ exit !(\$1 < 5000) }" "$work/stall.out"'

# What the OSDs count as not in sync.
lag() {
  "$XTFS" ps --data "$data" --json | jq -r '.[] | select(.role == "osd") | .http' | while read -r http; do
    case $http in http*) ;; *) http=http://$http ;; esac
    curl -sf "${http%/}/metrics" | awk '/^xtfs_osd_(lagging_replicas|unsynced_objects) / { sum += $2 } END { printf "%d\n", sum }'
  done | awk '{ sum += $1 } END { print NR == 4 ? sum : -1 }'
}
export -f lag
check_sh "the count of unsynced objects reaches zero" 60 'for _ in $(seq 100); do n=$(lag); [ "$n" = 0 ] && exit 0; sleep 0.5; done; echo "still $n"; exit 1'
check "down" 60 "$XTFS" down --data "$data"
finish
