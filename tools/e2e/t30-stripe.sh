#!/usr/bin/env bash
# Four OSDs, files striped over all of them: where the objects are, and that reading uses every OSD.
. "$(dirname "$0")/instance.sh"
must_up --separate --osds 4 --stripe-width 4

size=$(sized 67108864 16777216)
export size
head -c "$size" /dev/urandom >"$work/big"
check "copy $((size >> 20)) MiB in" 120 cp "$work/big" "$mnt/big"
check_sh "info --json lists four OSDs" 20 '
  "$XTFS" info "$mnt/big" --json --data "$data" >"$work/info.json" 2>"$work/info.err" || "$XTFS" info "$mnt/big" --json >"$work/info.json"
  test "$(jq "[.osds[] | select(.objects > 0) | .osd] | unique | length" "$work/info.json")" = 4 || { cat "$work/info.json"; exit 1; }'
check_sh "the objects are spread evenly and are all there" 20 '
  jq -e --argjson n $((size >> 20)) "([.osds[].objects] | add) == \$n and all(.osds[]; .objects == \$n / 4)" "$work/info.json" ||
    { jq ".osds" "$work/info.json"; exit 1; }'

# Read calls that each OSD has answered so far, from its own status page.
reads() {
  "$XTFS" ps --data "$data" --json | jq -r '.[] | select(.role == "osd") | "\(.name) \(.http)"' | while read -r name http; do
    case $http in http*) ;; *) http=http://$http ;; esac
    echo "$name $(curl -sf "${http%/}/metrics" | awk '/^xtfs_rpc_calls_total.*method="Read".*outcome="ok"/ { sum += $NF } END { printf "%d", sum }')"
  done
}
export -f reads
check_sh "each OSD counts its reads" 20 'reads >"$work/reads.0"; test "$(grep -c "^osd-[0-3] [0-9]" "$work/reads.0")" = 4 || { cat "$work/reads.0"; exit 1; }'
# A cold read: the kernel's pages of the file are dropped first.
check_sh "read it back, equal" 120 'python3 - "$mnt/big" <<P
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
P
sync; echo 1 2>/dev/null >/proc/sys/vm/drop_caches; cmp "$work/big" "$mnt/big"'
check_sh "every OSD took part, none more than twice as much as another" 20 '
  reads >"$work/reads.1"; join "$work/reads.0" "$work/reads.1" | tee "$work/reads.2"
  awk "{ n = \$3 - \$2; if (NR == 1 || n < least) least = n; if (n > most) most = n }
    END { exit !(NR == 4 && least >= 1 && most <= 2 * least) }" "$work/reads.2"'

check_sh "overwrites at odd places across objects" 120 '
  python3 - "$mnt/big" "$work/big" <<P
import os, random, sys
dice = random.Random(5)
files = [os.open(path, os.O_RDWR) for path in sys.argv[1:]]
size = os.fstat(files[0]).st_size
for _ in range(200):
    at, body = dice.randrange(size - 300000), dice.randbytes(dice.randrange(1, 300000))
    for fd in files:
        assert os.pwrite(fd, body, at) == len(body)
for fd in files:
    os.ftruncate(fd, size - 1234567)
P
  cmp "$work/big" "$mnt/big"'
check "down" 60 "$XTFS" down --data "$data"
must_up
check "the same after down and up" 60 cmp "$work/big" "$mnt/big"
check "rm" 20 rm "$mnt/big"
finish
