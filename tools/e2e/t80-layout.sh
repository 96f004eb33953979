#!/usr/bin/env bash
# Defaults for new files below a directory, on a cluster with three OSDs.
. "$(dirname "$0")/instance.sh"
must_up --separate --osds 3 --no-exec
mkdir -p "$mnt/l/deep/er" "$mnt/l/own" "$mnt/other"
layout() { "$XTFS" info "$1" --json | jq -r '"\(.stripe_size) \(.stripe_width) \(.replicas)"'; }
export -f layout
check_sh "get tells the volume's" 30 '"$XTFS" layout get "$mnt/l" --json | jq -e ".from == \"volume\" and .replicas == 1"'
check_sh "dry run sets nothing" 30 '"$XTFS" layout set "$mnt/l" --replicas 3 --dry-run && "$XTFS" layout get "$mnt/l" --json | jq -e ".from == \"volume\""'
check_sh "new files below get it, others and old ones do not" 60 'echo old >"$mnt/l/old" && "$XTFS" layout set "$mnt/l" --stripe-size 64K --replicas 3 && echo x >"$mnt/l/deep/er/new" && echo x >"$mnt/other/new" && "$XTFS" info "$mnt/l/deep/er/new" --json >"$work/new.json" && "$XTFS" info "$mnt/other/new" --json >"$work/other.json" && "$XTFS" info "$mnt/l/old" --json >"$work/old.json"; cat "$work/new.json"
  osds() { jq "[.. | .osds? // empty] | flatten | length" "$1"; }; [ "$(jq -r "[.. | .stripe_size? // empty][0]" "$work/new.json")" = 65536 ] && [ "$(jq -r "[.. | .stripe_size? // empty][0]" "$work/other.json")" != 65536 ] && [ "$(jq -r "[.. | .stripe_size? // empty][0]" "$work/old.json")" != 65536 ]'
check_sh "the nearest directory decides" 60 '"$XTFS" layout set "$mnt/l/own" --replicas 1 --stripe-width 2 && "$XTFS" layout get "$mnt/l/own" --json | jq -e ".replicas == 1 and .stripe_width == 2 and .stripe_size == 65536" && "$XTFS" layout get "$mnt/l/deep" --json | jq -e ".replicas == 3"'
check_sh "what cannot be is refused" 30 'out=$("$XTFS" layout set "$mnt/l" --stripe-size 5000 2>&1); [ $? = 2 ] && grep -q "power of two" <<<"$out"'
check_sh "data survives the loss of an OSD" 90 'head -c 300000 /dev/urandom >"$work/data" && cp "$work/data" "$mnt/l/deep/data" && sync && "$XTFS" stop osd-0 --data "$data" && cmp "$work/data" "$mnt/l/deep/data"; status=$?; "$XTFS" start osd-0 --data "$data"; exit $status'
check_sh "unset" 30 '"$XTFS" layout set "$mnt/l" --unset && "$XTFS" layout get "$mnt/l/deep" --json | jq -e ".from == \"volume\"" && rmdir "$mnt/l/deep/er" 2>/dev/null; [ "$(id -u)" != 0 ] || "$XTFS" fsck "$mnt"'
finish
