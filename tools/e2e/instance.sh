# Sourced by every script here: one instance of xtfs in a folder of its own, counters, and a clean end.
# shellcheck shell=bash
#
#   XTFS    the binary            (default: the release build of this checkout)
#   QUICK   1: small sizes, for CI
#   KEEP    1: leave the folder behind when something failed
#   UP      more options for every `xtfs up`
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
: "${XTFS:=${CARGO_TARGET_DIR:-$repository/target}/release/xtfs}"
: "${QUICK:=0}" "${UP:=}"
XTFS=$(readlink -f "$XTFS") || { echo "no binary; run: cargo build --release -p xtfs"; echo "0 passed, 1 failed"; exit 1; }
[ -x "$XTFS" ] || { echo "no binary at $XTFS; run: cargo build --release -p xtfs"; echo "0 passed, 1 failed"; exit 1; }

work=$(mktemp -d "${TMPDIR:-/tmp}/xtfs-e2e.XXXXXX")
# Other users of the mount must reach it.
chmod 755 "$work"
data=$work/data
mnt=$data/mnt
spool=$mnt/spool/$(id -un)
passed=0
failed=0
export XTFS work data mnt spool QUICK

# sized FULL SMALL: the first, or with QUICK=1 the second.
sized() { if [ "$QUICK" = 1 ]; then echo "$2"; else echo "$1"; fi; }

ok() { passed=$((passed + 1)); echo "ok   $*"; }
bad() { failed=$((failed + 1)); echo "FAIL $*"; }

# check NAME SECONDS COMMAND...: passes when the command ends with 0 in time; otherwise shows the end of its output.
check() {
  local name=$1 limit=$2 start=$SECONDS status
  shift 2
  timeout -k 5 "$limit" "$@" >"$work/out" 2>&1 </dev/null
  status=$?
  if [ $status = 0 ]; then
    ok "$name ($((SECONDS - start)) s)"
  else
    bad "$name: status $status after $((SECONDS - start)) s: $*"
    tail -n 8 "$work/out" | cut -c1-300 | sed 's/^/       /'
  fi
  return $status
}

# Like check, for a shell text.
check_sh() { local name=$1 limit=$2; shift 2; check "$name" "$limit" bash -uo pipefail -c "$1"; }

# known NAME SECONDS SHELL: a deviation that docs/semantics.md lists. Counts only when it is gone, so that the page is mended.
known() {
  if timeout -k 5 "$2" bash -uo pipefail -c "$3" >"$work/out" 2>&1 </dev/null; then
    bad "$1: works now; strike it from docs/semantics.md and make this a check"
  else
    echo "known $1: not kept, see docs/semantics.md"
  fi
}

now_ms() { date +%s%3N; }

# Remembers the processes of the instance, so that whatever goes wrong, they can be ended, and no others.
remember() { timeout 20 "$XTFS" ps --data "$data" --json 2>/dev/null | jq -r '.[].pid // empty' >>"$work/pids"; }

# up OPTIONS...: starts the instance in the background; its JSON is in $work/up.json.
up() {
  # shellcheck disable=SC2086
  timeout -k 5 60 "$XTFS" up --detach --json --data "$data" "$@" $UP >"$work/up.json" 2>"$work/up.err" </dev/null
  local status=$?
  jq -r '.pid // empty' "$work/up.json" >>"$work/pids" 2>/dev/null
  remember
  [ $status = 0 ] || { echo "xtfs up $* ended with $status:"; tail -n 8 "$work/up.err"; }
  return $status
}

# must_up OPTIONS...: without an instance there is nothing to test.
must_up() { up "$@" || { bad "xtfs up $*"; finish; }; ok "xtfs up $*"; }

down() { timeout -k 5 60 "$XTFS" down --data "$data" >"$work/down.out" 2>&1 </dev/null; }

# pid_of NAME: of a service of a --separate instance.
pid_of() { timeout 20 "$XTFS" ps --data "$data" --json | jq -r --arg n "$1" '.[] | select(.name == $n) | .pid // empty'; }

# leader_of ROLE: the name of the Raft leader among dir or mrc.
leader_of() {
  timeout 20 "$XTFS" ps --data "$data" --json | jq -r --arg r "$1" '.[] | select(.role == $r and .leader == true) | .name' | head -n 1
}

# murder NAME: kill -9.
murder() { local pid; pid=$(pid_of "$1"); [ -n "$pid" ] && kill -9 "$pid"; }

# revive NAME
revive() { timeout 60 "$XTFS" start "$1" --data "$data" >"$work/start.out" 2>&1 </dev/null; local status=$?; remember; return $status; }

finish() {
  trap - EXIT
  [ -d "$data" ] && down
  sweep
  if [ $failed != 0 ] && [ "${KEEP:-0}" = 1 ]; then
    echo "kept: $work"
  else
    rm -rf --one-file-system "$work"
  fi
  echo "$passed passed, $failed failed"
  [ $failed = 0 ] && [ $passed -gt 0 ]
  exit $?
}

# Ends what `down` did not, by recorded process id, and only if it is still this binary on this data.
sweep() {
  local pid
  for pid in $(sort -un "$work/pids" 2>/dev/null); do
    case $(readlink "/proc/$pid/exe" 2>/dev/null) in "$XTFS"*) ;; *) continue ;; esac
    # Reading these can block for ever when a mount hangs.
    { timeout 2 cat "/proc/$pid/cmdline"; timeout 2 readlink "/proc/$pid/cwd" /proc/"$pid"/fd/*; } 2>/dev/null | grep -qaF "$data" || continue
    kill -9 "$pid" 2>/dev/null && echo "swept process $pid, which outlived \`xtfs down\`"
  done
  while grep -qsF " $work/" /proc/self/mounts; do
    local left
    left=$(awk -v w="$work/" 'index($2, w) == 1 { print $2 }' /proc/self/mounts | tail -n 1)
    umount -l "$left" 2>/dev/null || fusermount3 -uz "$left" 2>/dev/null || break
  done
}

trap 'bad "ended before its end"; finish' EXIT
trap 'exit 130' INT TERM
