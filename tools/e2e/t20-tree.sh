#!/usr/bin/env bash
# Real programs on the mount: copies of trees, git, cargo, SQLite, sparse files, fio with checksums, fsx.
. "$(dirname "$0")/instance.sh"
must_up

count=$(sized 20000 2500)
export count here
python3 "$here/make-tree.py" "$work/tree" "$count"
# Directories are left out: their sizes and link counts are the file system's own.
manifest() { (cd "$1" && find . ! -type d -printf '%p %y %m %n %s %l %u %g %T@\n' | sort); }
export -f manifest
check "cp -a of $count files" "$(sized 900 200)" cp -a "$work/tree" "$mnt/tree"
check "diff -r finds no difference" "$(sized 600 120)" diff -r --no-dereference --exclude=fifo "$work/tree" "$mnt/tree"
check_sh "modes, owners, links and times are the same" 300 'diff <(manifest "$work/tree") <(manifest "$mnt/tree")'
check_sh "tar to and from the mount" "$(sized 900 200)" '
  tar -C "$mnt/tree" --exclude=./fifo -cf "$mnt/t.tar" . && mkdir "$mnt/x" && tar -C "$mnt/x" -xpf "$mnt/t.tar" &&
  diff -r --no-dereference --exclude=fifo "$work/tree" "$mnt/x" && rm "$mnt/t.tar"'
check "rm -rf of the copies" "$(sized 600 120)" rm -rf "$mnt/tree" "$mnt/x"

export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*' repository
check "git clone" 300 git clone -q --no-hardlinks "$repository" "$mnt/clone"
check "git fsck" 300 git -C "$mnt/clone" fsck --full
check_sh "git commits, switches and is clean" 120 '
  cd "$mnt/clone" && git config user.email a@b && git config user.name n && git checkout -qb side && echo x >new && git add new &&
  git commit -qm x && git checkout -q - && git checkout -q side && git gc -q && test -z "$(git status --porcelain)"'

mkdir -p "$mnt/crate/src" "$mnt/crate/dep/src"
cat >"$mnt/crate/Cargo.toml" <<'T'
[package]
name = "app"
version = "0.1.0"
edition = "2021"
[dependencies]
dep = { path = "dep" }
[workspace]
T
printf '[package]\nname = "dep"\nversion = "0.1.0"\nedition = "2021"\n' >"$mnt/crate/dep/Cargo.toml"
for i in $(seq 30); do echo "pub mod m$i { pub fn f(x: u64) -> u64 { x.wrapping_mul($i).rotate_left($i) } }"; done >"$mnt/crate/dep/src/lib.rs"
{ echo 'fn main() { let mut t = 1;'; for i in $(seq 30); do echo "t = dep::m$i::f(t) + 1;"; done; echo 'println!("{t}"); }'; } >"$mnt/crate/src/main.rs"
check_sh "cargo build with its target on the mount" 300 '
  cd "$mnt/crate" && env -u CARGO_TARGET_DIR cargo build --offline && ./target/debug/app | grep -q "^[0-9]*$"'
check_sh "cargo sees that nothing changed, then that something did" 200 '
  cd "$mnt/crate" && unset CARGO_TARGET_DIR && ! cargo build --offline 2>&1 | grep -q Compiling && sleep 1.1 &&
  echo "pub fn more() {}" >>dep/src/lib.rs && test "$(cargo build --offline 2>&1 | grep -c Compiling)" = 2'

check "SQLite: $(sized 2000 300) synced transactions" 400 python3 "$here/sqlite-sync.py" "$mnt/db.sqlite" "$(sized 2000 300)"

check_sh "a 10 GiB sparse file" 120 '
  truncate -s 10G "$mnt/sparse" && head -c 1000000 /dev/urandom >"$work/piece" &&
  dd if="$work/piece" of="$mnt/sparse" bs=1000000 seek=5000000000 oflag=seek_bytes conv=notrunc status=none &&
  test "$(stat -c %s "$mnt/sparse")" = $((10 << 30)) &&
  cmp "$work/piece" <(dd if="$mnt/sparse" bs=1000000 skip=5000000000 iflag=skip_bytes count=1 status=none) &&
  cmp <(head -c 8000000 /dev/zero) <(dd if="$mnt/sparse" bs=8000000 skip=9000000000 iflag=skip_bytes count=1 status=none)'
check_sh "du knows that a file is sparse" 10 'du -m "$mnt/sparse" | tee /dev/stderr | { read -r mib _; test "$mib" -lt 100; }'
rm -f "$mnt/sparse"

size=$(sized 64m 16m)
for bs in $(sized "4k 64k 1m" "4k 1m"); do
  for direct in 0 1; do
    check "fio crc32c, blocks of $bs, direct=$direct" 300 fio --name="v$bs$direct" --directory="$mnt" --rw=randwrite --bs="$bs" \
      --size="$size" --direct=$direct --ioengine=psync --verify=crc32c --verify_fatal=1 --verify_dump=0 --do_verify=1 \
      --verify_state_save=0 --end_fsync=1 --minimal --randseed=7
    rm -f "$mnt/v$bs$direct"*
  done
done

fsx=${FSX:-${XTFS_CACHE:-$HOME/.cache/xtfs}/tools/bin/fsx}
if [ -x "$fsx" ]; then
  operations=$(sized 100000 8000)
  printf 'flen = 1048576\n[opsize]\nmin = 0\nmax = 65536\n[weights]\nclose_open = 1\ninvalidate = 1\ntruncate = 5\nfsync = 1\nfdatasync = 1\n' >"$work/fsx.toml"
  check "fsx, $operations operations" 900 "$fsx" -f "$work/fsx.toml" -N "$operations" -S "${SEED:-1}" -P "$work" "$mnt/fsx"
else
  echo "skip fsx: not installed (tools/setup test)"
fi
finish
