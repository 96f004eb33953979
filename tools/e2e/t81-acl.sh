#!/usr/bin/env bash
# `xtfs acl`: the same text, the same masks and the same rights as getfacl and setfacl, on a mount and by URL.
. "$(dirname "$0")/instance.sh"
command -v setfacl getfacl >/dev/null || { ok "skipped: no setfacl here (package acl)"; finish; }
must_up --no-exec
url=$(jq -r '"xtfs://" + (.dir | if type == "array" then join(",") else . end) + "/" + .volume' "$work/up.json")
export url
mkdir -p "$mnt/p/q/r" && cd "$mnt" && touch f p/q/g 'p/q/a b' && ln -s g p/q/link && ln -s f link && echo secret >s && chmod 640 s

check_sh "what it sets, getfacl shows" 30 '"$XTFS" acl set f user:4001:rw group:4002:r && [ "$(getfacl -cn f | tr "\n" " ")" = "user::rw- user:4001:rw- group::r-- group:4002:r-- mask::rw- other::r--  " ]'
check_sh "what setfacl sets, it shows, letter for letter" 30 'setfacl -m u:4003:rwx,m::r,u:daemon:x f && "$XTFS" acl get f | diff - <(getfacl f) && "$XTFS" acl get -n f | diff - <(getfacl -n f)'
check_sh "a link is followed" 30 '"$XTFS" acl get link | diff - <(getfacl link)'
check_sh "a tree, default lists too" 60 '"$XTFS" acl set -R p u:4001:rX d:g:4002:rwX && "$XTFS" acl get -R p | diff - <(getfacl -R p) && getfacl -cn p/q/g | grep -qx "user:4001:r--" && getfacl -cn p/q | grep -qx "user:4001:r-x" && getfacl -cnd p/q/r | grep -qx "group:4002:rwx"'
check_sh "new files begin with the default list" 30 'touch p/q/new && getfacl -cn p/q/new | grep -q "^group:4002:rwx"'
check_sh "only the default list" 30 '"$XTFS" acl get -d p | diff - <(getfacl -d p)'
check_sh "one file's lists for another" 30 '"$XTFS" acl get p | "$XTFS" acl set p/q/r --replace --file - && diff <(getfacl -c p) <(getfacl -c p/q/r)'
check_sh "setfacl --restore understands it" 30 '"$XTFS" acl get f >"$work/kept" && setfacl -b f && setfacl --restore="$work/kept" && getfacl -cn f | grep -q "^user:4003:rwx"'
check_sh "of a file that is being written" 30 'exec 3>>w; echo x >&3; chmod 640 w; setfacl -m u:4001:rw w; echo y >&3; "$XTFS" acl get w | diff - <(getfacl w) && "$XTFS" acl set w g:4002:r && chmod 604 w && "$XTFS" acl get w | diff - <(getfacl w) && [ "$(stat -c "%s %a" w)" = "4 604" ]'
check_sh "by URL" 30 '"$XTFS" acl set "$url/p/q/g" user:4009:r && getfacl -cn p/q/g | grep -qx "user:4009:r--" && "$XTFS" acl get "$url/p/q/g" --json | jq -e ".access | map(select(.id == 4009)) | .[0].permissions == \"r--\""'
check_sh "--dry-run changes nothing" 30 'before=$(getfacl -R p f); "$XTFS" acl set f user:4010:r --dry-run | grep -q 4010 && "$XTFS" acl rm -R p --dry-run --json | jq -e ".changed > 3 and .dry_run" && [ "$(getfacl -R p f)" = "$before" ]'
check_sh "rm of an entry, of the default list, of everything" 30 '"$XTFS" acl rm f user:4003 && ! getfacl -cn f | grep -q 4003 && "$XTFS" acl rm --default p && [ -z "$(getfacl -cd p)" ] && getfacl -cn p | grep -q 4001 && "$XTFS" acl rm -R p && ! getfacl -Rcn p | grep -qE "4001|4002|default|mask"'
check_sh "json of a tree is a line per file" 30 '"$XTFS" acl get -R p --json | jq -se "length == $(find p ! -type l | wc -l) and all(.access | length == 3)"'

check_sh "a malformed entry is named, status 2, nothing changed" 30 'for e in user:x-nobody:r user:4001:rwz 4001:r user:4001 user:4001:r:w; do out=$("$XTFS" acl set f "$e" 2>&1); [ $? = 2 ] && grep -qF "entry \"$e\"" <<<"$out" && grep -q "next:" <<<"$out" || { echo "$e: $out"; exit 1; }; done'
check_sh "a default list of a file is refused" 30 'out=$("$XTFS" acl set f d:u:4001:r 2>&1); [ $? = 1 ] && grep -q "no directory" <<<"$out"'
check_sh "the owner's entry cannot be removed" 30 'out=$("$XTFS" acl rm f user:: 2>&1); [ $? = 1 ] && grep -q "cannot be removed" <<<"$out"'
check_sh "a path that is not there" 30 'out=$("$XTFS" acl get nothing 2>&1); [ $? = 1 ] && grep -q "No such file" <<<"$out"'

if [ "$(id -u)" = 0 ]; then
  export as="setpriv --reuid 4001 --regid 4001 --clear-groups"
  check_sh "the right comes and goes with the entry" 30 '! $as cat s 2>/dev/null && "$XTFS" acl set s user:4001:r && $as cat s && "$XTFS" acl rm s user:4001 && ! $as cat s 2>/dev/null'
  check_sh "who is not the owner may not" 30 'out=$($as "$XTFS" acl set "$mnt/s" user:4001:rwx 2>&1); [ $? = 1 ] && ! getfacl -cn s | grep -q 4001'
fi

# The same random changes by setfacl to one file and by the tool to another end in the same lists.
cat >"$work/random.py" <<'P'
import os, random, subprocess, sys
random.seed(int(sys.argv[1]))
tool, rounds = os.environ["XTFS"], int(sys.argv[2])
def lists(path): return subprocess.run(["getfacl", "-cn", path], capture_output=True, text=True, check=True).stdout
def entry(wants):
    tag = random.choice(["u:%d", "u:%d", "g:%d", "g:%d", "u:", "g:", "o:", "m:"])
    text = tag % random.randrange(4001, 4004) if "%" in tag else tag
    return random.choice(["", "", "d:"]) + text + (":" + random.choice(["r", "rw", "rwx", "r-x", "---", "5", "rX", "X"]) if wants else "")
done = refused = 0
for n in range(rounds):
    for name in "ab":
        subprocess.run(["rm", "-rf", name], check=True); os.mkdir(name)
        os.chmod(name, 0o751)
    for step in range(6):
        how = random.choice(["-m", "-m", "-m", "-x", "-n", "-b", "-k"])
        entries = [entry(how != "-x") for _ in range(random.randrange(1, 4))]
        if how == "-x": entries = [e for e in entries if e.lstrip("d:")[:2] not in ("u:", "g:", "o:") or e[-1].isdigit()] or ["u:4001"]
        theirs = {"-m": ["-m", ",".join(entries)], "-x": ["-x", ",".join(entries)], "-n": ["-n", "-m", ",".join(entries)]}.get(how, [how])
        ours = {"-m": ["set", "b", *entries], "-x": ["rm", "b", *entries], "-n": ["set", "b", "--no-mask", *entries],
                "-b": ["rm", "b"], "-k": ["rm", "b", "--default"]}[how]
        x = subprocess.run(["setfacl", *theirs, "a"], capture_output=True, text=True)
        y = subprocess.run([tool, "acl", *ours], capture_output=True, text=True)
        if (x.returncode == 0) != (y.returncode == 0): sys.exit(f"{theirs}: setfacl {x.returncode} {x.stderr}, xtfs {y.returncode} {y.stderr}")
        done, refused = done + (x.returncode == 0), refused + (x.returncode != 0)
        la, lb = lists("a"), lists("b")
        if la != lb: sys.exit(f"seed {sys.argv[1]} round {n} step {step} {theirs}:\n{la}--- xtfs:\n{lb}--- again:\n{lists('a')}--- xtfs:\n{lists('b')}")
print(f"{done} changes, {refused} refused by both")
sys.exit(done < rounds)
P
check "random changes end as with setfacl" 300 python3 "$work/random.py" "${SEED:-1}" "$(sized 60 8)" && tail -n 1 "$work/out"

# Another client changes a directory: the next call here shows it.
cat >"$work/next.py" <<'P'
import os, subprocess, sys
os.mkdir("next"); os.chmod("next", 0o751)
stale = 0
for n in range(int(sys.argv[1])):
    os.stat("next")
    mode = [0o551, 0o751][n % 2]
    subprocess.run([os.environ["XTFS"], "acl", "set", "next", ["u::r-x", "u::rwx"][n % 2]], check=True, stdout=subprocess.DEVNULL)
    stale += os.stat("next").st_mode & 0o777 != mode
sys.exit(f"{stale} times the mode of before was shown" if stale else 0)
P
check "what another client made of a directory is seen by the next call" 120 python3 "$work/next.py" "$(sized 400 40)"
cd /
finish
