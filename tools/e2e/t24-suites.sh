#!/usr/bin/env bash
# What programs that share a volume over two mounts need: fsx on one file through both, ping_pong's locks and counters, SQLite's databases,
# sparse files that are told as sparse, many entries in one directory; and afterwards metadata that fits.
. "$(dirname "$0")/instance.sh"
must_up --separate --dirs 3 --mrcs 3 --osds 3
second=$work/second
mkdir "$second"
check "a second mount" 60 "$XTFS" mount "xtfs://$(jq -r .dir "$work/up.json")/default" "$second"
export second here

check "fsx through two mounts, $(sized 20000 3000) operations" 240 \
  python3 "$here/fsx-mounts.py" "$mnt" "$second" --seed "${SEED:-1}" --ops "$(sized 20000 3000)"

# The counters of a byte under a lock: each of two takes turns, so the other's last step is what it reads.
check "names change as in a local directory, and so the second mount sees them" 120 \
  python3 "$here/names.py" "$mnt/names" "$work/names" --second "$second/names" --seed "${SEED:-1}" --seconds "$(sized 40 8)"
check "locks and data take turns over two mounts" 60 python3 "$here/turns.py" "$mnt" "$second" --seconds "$(sized 5 2)"

cat >"$work/skip.py" <<'PY'
import os, sys
for path, cut in ((sys.argv[1], False), (sys.argv[2], True)):
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    for at in (0, 5 << 20, 300 << 20):
        os.pwrite(fd, os.urandom(5000), at)
    if cut:
        os.ftruncate(fd, 400 << 20)
    os.close(fd)
PY
check_sh "files written with holes are told as sparse as they are, on both mounts" 20 '
  python3 "$work/skip.py" "$mnt/skipped" "$mnt/cut" &&
  for at in "$mnt" "$second"; do
    test "$(stat -c %b "$at/skipped" "$at/cut" | tr "\n" " ")" = "48 48 " || { stat "$at/skipped" "$at/cut"; exit 1; }
  done'

check_sh "a tree with links, lists, attributes and holes is made" 60 '
  mkdir "$work/tree" && cd "$work/tree" && chmod 755 . || exit 1
  for i in $(seq '"$(sized 400 60)"'); do mkdir -p d$((i % 9)) && head -c $((i * 137)) /dev/urandom >d$((i % 9))/f$i || exit 1; done
  ln d1/f1 d2/linked && ln -s ../d1/f1 d3/symbolic && mkfifo d4/fifo && python3 "$work/skip.py" d5/skipped d5/cut &&
  setfacl -m u:1:r-- d1/f1 && setfacl -d -m g:2:rwx d6 && python3 -c "import os; os.setxattr(\"d2\", \"user.told\", b\"so\")" &&
  touch -d 1999-12-31T23:59:59.123456789Z d1/f1 && chmod 4751 d7/f7 && chown 12:34 d8/f8'
check_sh "rsync -aHAXS there, from the second mount back, and nothing differs" 120 '
  rsync -aHAXS --numeric-ids "$work/tree/" "$mnt/tree/" && rsync -aHAXS --numeric-ids "$second/tree/" "$work/back/" || exit 1
  for copy in "$mnt/tree/" "$second/tree/" "$work/back/"; do
    differs=$(rsync -aHAXSn --delete --checksum --itemize-changes --numeric-ids "$work/tree/" "$copy") || exit 1
    test -z "$differs" || { echo "$copy: $differs"; exit 1; }
  done
  test "$(stat -c %b "$second/tree/d5/skipped")" = 48 && test "$(stat -c %h "$second/tree/d2/linked")" = 2'

check "$(sized 10000 1000) entries in one directory" 120 python3 "$here/big-directory.py" "$mnt" "$second" --entries "$(sized 10000 1000)"

check_sh "the metadata fits" 60 '"$XTFS" fsck "xtfs://$(jq -r .dir "$work/up.json")/default"'
umount "$second" 2>/dev/null || fusermount3 -u "$second"
finish
