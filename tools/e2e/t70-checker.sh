#!/usr/bin/env bash
# Two mounts of one volume, processes on both, and every call checked against POSIX (checker/README.md).
#   CLASSES   kinds of calls (default: all)
. "$(dirname "$0")/instance.sh"
checker=${CHECKER:-${CARGO_TARGET_DIR:-$repository/target}/release/posix-checker}
[ -x "$checker" ] || { cargo build --release --locked --quiet --package posix-checker || { bad "posix-checker cannot be built"; finish; }; }
export checker
must_up --separate --dirs 1 --mrcs 1 --osds 2
second=$work/second
mkdir "$second"
check "a second mount" 60 "$XTFS" mount "xtfs://$(jq -r .dir "$work/up.json")/default" "$second"
export second mnt

# hold NAME OPTIONS: no call on two mounts is without an explanation.
hold() {
  check_sh "$1" 240 "'$checker' run --mounts '$mnt,$second' --seed '${SEED:-1}' --seconds $(sized 60 8) --ops $(sized 60000 6000) $2"
}
check_sh "the control: one mount given twice" 120 \
  "'$checker' run --mounts '$mnt,$mnt' --seed 1 --seconds $(sized 30 4) --ops $(sized 20000 2000) --classes names,locks"
for class in ${CLASSES:-names locks append grow cells sizes}; do
  hold "$class on two mounts" "--classes $class"
done
umount "$second" 2>/dev/null || fusermount3 -u "$second"
finish
