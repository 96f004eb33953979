//! Jobs from drop to result on a local directory, with real supervisors.
#![cfg(test)]

#[path = "local/world.rs"]
mod world;

use std::time::Duration;

use world::{World, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hello_world() {
    let mut w = World::start(2).await;
    w.drop_file("hello.toml", "exec = \"/bin/echo\"\nargs = [\"hello\", \"{name}\"]\n");
    let (dir, id, result) = w.result("hello.toml").await;
    assert_eq!(
        (dir.as_str(), &result["state"], &result["exit_code"]),
        ("done", &"DONE".into(), &0.into()),
        "{result}"
    );
    assert_eq!(w.job_file(&id, "stdout.txt"), "hello hello\n");
    assert!(w.job_file(&id, "status").contains("DONE"));
    assert_eq!(w.names("run", ""), Vec::<String>::new());
    assert_eq!(world::names(&w.dir.path().join("spool/.exec/active"), ""), Vec::<String>::new());
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failing_scripts_and_missing_programs_say_why() {
    let mut w = World::start(2).await;
    w.drop_file(
        "s.sh",
        "#!/bin/sh\n#XOS name = my script\n#XOS env.WHAT = world\necho hello $WHAT >&2; exit 3\n",
    );
    w.drop_file("m.toml", "exec = \"/no/such/program\"\n");
    w.drop_file("k.toml", "script = \"kill -SEGV $$\"\n");
    let (dir, id, result) = w.result("s.sh").await;
    assert_eq!(
        (dir.as_str(), &result["exit_code"], &result["name"]),
        ("failed", &3.into(), &"my script".into())
    );
    assert_eq!(w.job_file(&id, "stderr.txt"), "hello world\n");
    let why = std::fs::read_to_string(w.user("failed").join(format!("s.sh~{id}.why"))).unwrap();
    assert_eq!(why, "FAILED: exit status 3\n");
    let (_, _, result) = w.result("m.toml").await;
    assert_eq!(result["reason"]["text"], "executing /no/such/program: No such file or directory");
    let (_, _, result) = w.result("k.toml").await;
    assert_eq!(result["reason"]["text"], "killed by SIGSEGV");
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_descriptors_are_kept_with_the_reasons() {
    let mut w = World::start(2).await;
    let text = "exec = \"/bin/true\"\narguments = [\"a\"]\n[resources]\nmemory = \"2GB ram\"\n";
    w.drop_file("bad.toml", text);
    w.drop_file("a b.toml", "exec = \"/bin/true\"\n");
    std::os::unix::fs::symlink("/etc/passwd", w.user("new").join("link.toml")).unwrap();
    until("bad.toml is rejected", || w.user("rejected").join("bad.toml~1").exists()).await;
    assert_eq!(std::fs::read_to_string(w.user("rejected").join("bad.toml~1")).unwrap(), text);
    let error = std::fs::read_to_string(w.user("rejected").join("bad.toml~1.error")).unwrap();
    assert_eq!(error, include_str!("golden/bad.toml.error"));
    until("the link is rejected", || w.user("rejected").join("link.toml~1").symlink_metadata().is_ok()).await;
    let error = std::fs::read_to_string(w.user("rejected").join("link.toml~1.error")).unwrap();
    assert!(error.contains("E0202"), "{error}");
    assert_eq!(w.names("new", "a b"), ["a b.toml"], "names that are not accepted stay");
    // Again: the next number, nothing overwritten.
    w.drop_file("bad.toml", "{\n");
    until("the second is rejected", || w.user("rejected").join("bad.toml~2.error").exists()).await;
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancel_by_rm_and_by_control_file() {
    let mut w = World::start(2).await;
    w.drop_file("a.toml", "script = \"sleep 100 & sleep 100\"\n");
    w.drop_file("b.toml", "exec = \"sleep\"\nargs = [\"100\"]\n");
    let (a, b) = (w.running("a.toml").await, w.running("b.toml").await);
    std::fs::remove_file(w.user("run").join(format!("a.toml~{a}"))).unwrap();
    std::fs::write(w.user("jobs").join(&b).join("control/cancel"), "no more need grace=5s").unwrap();
    for name in ["a.toml", "b.toml"] {
        let (dir, id, result) = w.result(name).await;
        assert_eq!((dir.as_str(), &result["state"]), ("failed", &"CANCELED".into()), "{result}");
        assert!(w.job_file(&id, "eventlog").contains("\"e\":\"cancel\""));
    }
    assert!(w.job_file(&b, "eventlog").contains("no more need"));
    until("the wish is answered", || {
        !world::names(&w.user("jobs").join(&b).join("control/.done"), "").is_empty()
    })
    .await;
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_and_memory_limits() {
    let mut w = World::start(2).await;
    w.drop_file("t.toml", "exec='sleep'\nargs=['100']\nresources.time='300ms'\n");
    let script = "import sys\nx=[]\nfor i in range(400): x.append(bytearray(1<<20))\nprint('survived')\n";
    w.drop_file(
        "m.toml",
        &format!("script = '''#!/usr/bin/python3\n{script}'''\nresources.memory='64MiB'\n"),
    );
    let (_, _, result) = w.result("t.toml").await;
    assert_eq!(result["state"], "TIMEOUT", "{result}");
    let (_, id, result) = w.result("m.toml").await;
    assert!(result["state"] == "OOM" || w.job_file(&id, "stderr.txt").contains("MemoryError"), "{result}");
    assert_eq!(w.job_file(&id, "stdout.txt"), "");
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspend_resume_signal_hold_release() {
    let mut w = World::start(1).await;
    w.drop_file("a.sh", "#!/bin/sh\ntrap 'echo got; exit 0' USR1\necho up\nwhile :; do sleep 0.05; done\n");
    let a = w.running("a.sh").await;
    let control = |id: &str, file: &str, text: &str| {
        std::fs::write(w.user("jobs").join(id).join("control").join(file), text).unwrap();
    };
    w.drop_file("b.toml", "exec='true'\n");
    until("b is claimed", || w.names("run", "b.toml~").len() == 1).await;
    let b = w.names("run", "b.toml~")[0].rsplit_once('~').unwrap().1.to_string();
    until("b's log", || w.job_file(&b, "eventlog").contains("submit")).await;
    control(&b, "hold", "later");
    until("b is held", || w.names("hold", "b.toml~").len() == 2).await;
    control(&a, "suspend", "");
    until("a is suspended", || w.job_file(&a, "status.json").contains("\"SUSP\"")).await;
    control(&a, "resume", "");
    until("a goes on", || w.job_file(&a, "status.json").contains("\"RUN\"")).await;
    control(&a, "signal", "USR1");
    let (_, _, result) = w.result("a.sh").await;
    assert_eq!(result["state"], "DONE", "{result}");
    assert_eq!(w.job_file(&a, "stdout.txt"), "up\ngot\n");
    // Released by hand: the descriptor moved back.
    std::fs::rename(w.user("hold").join(format!("b.toml~{b}")), w.user("run").join(format!("b.toml~{b}")))
        .unwrap();
    let (dir, _, _) = w.result("b.toml").await;
    assert_eq!(dir, "done");
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_descriptor_moved_back_is_a_new_job() {
    let mut w = World::start(1).await;
    w.drop_file("a.toml", "exec='false'\nidempotency_key='k'\n");
    let (_, first, _) = w.result("a.toml").await;
    std::fs::rename(w.user("failed").join(format!("a.toml~{first}")), w.user("tmp/again.toml")).unwrap();
    std::fs::write(w.user("tmp/again.toml"), "exec='false'\n").unwrap();
    std::fs::rename(w.user("tmp/again.toml"), w.user("new/again.toml")).unwrap();
    let (_, second, _) = w.result("again.toml").await;
    assert_ne!(first, second);
    // The key still points to the first.
    w.drop_file("b.toml", "exec='true'\nidempotency_key='k'\n");
    until("b is rejected", || w.user("rejected/b.toml~1.error").exists()).await;
    assert!(std::fs::read_to_string(w.user("rejected/b.toml~1.error")).unwrap().contains(&first));
    w.stop().await;
}

/// As on a full disk: the descriptor is in `run/`, and what comes next cannot be written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_ends_half_way_is_made_whole_when_it_can_be() {
    let mut w = World::start(1).await;
    let active = w.dir.path().join("spool/.exec/active");
    let aside = w.dir.path().join("spool/.exec/aside");
    std::fs::rename(&active, &aside).unwrap();
    std::fs::write(&active, "in the way").unwrap();
    w.drop_file("a.toml", "exec='true'\n");
    until("a is claimed", || w.names("run", "a.toml~").len() == 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(w.names("done", ""), Vec::<String>::new());
    std::fs::remove_file(&active).unwrap();
    std::fs::rename(&aside, &active).unwrap();
    let (dir, _, result) = w.result("a.toml").await;
    assert_eq!((dir.as_str(), &result["state"]), ("done", &"DONE".into()), "{result}");
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_is_not_done_is_waited_for() {
    use std::io::Write;
    let mut w = World::start(1).await;
    let mut file = std::fs::File::create(w.user("new/slow.toml")).unwrap();
    for part in ["exec = '/bin/e", "cho'\nargs = [", "'whole']\n"] {
        file.write_all(part.as_bytes()).unwrap();
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert!(w.user("new/slow.toml").exists(), "claimed while it was open");
    }
    drop(file);
    let (_, id, _) = w.result("slow.toml").await;
    assert_eq!(w.job_file(&id, "stdout.txt"), "whole\n");
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_run_as_their_owner() {
    let mut w = World::start(1).await;
    let user = "nobody";
    let uid = nix::unistd::User::from_name(user).unwrap().unwrap();
    let dir = w.dir.path().join("spool").join(user);
    // The temporary directory must be passable for the user.
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(w.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir(&dir).unwrap();
    nix::unistd::chown(&dir, Some(uid.uid), Some(uid.gid)).unwrap();
    until("the spool is made", || dir.join("new").is_dir()).await;
    let text = "script = '''#!/bin/sh\nid -u; id -g; grep NoNewPrivs /proc/self/status; ls /proc | grep -c '^[0-9]'\nkill -9 1'''\n";
    std::fs::write(dir.join("tmp/a.toml"), text).unwrap();
    nix::unistd::chown(&dir.join("tmp/a.toml"), Some(uid.uid), Some(uid.gid)).unwrap();
    std::fs::rename(dir.join("tmp/a.toml"), dir.join("new/a.toml")).unwrap();
    until("it ends", || {
        !world::names(&dir.join("done"), "").is_empty() || !world::names(&dir.join("failed"), "").is_empty()
    })
    .await;
    let jobs = world::names(&dir.join("jobs"), "j-");
    let out = std::fs::read_to_string(dir.join("jobs").join(&jobs[0]).join("stdout.txt")).unwrap();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..3], [uid.uid.to_string().as_str(), &uid.gid.to_string(), "NoNewPrivs:\t1"], "{out}");
    assert!(lines[3].parse::<u32>().unwrap() < 8, "its own processes only: {out}");
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_outlive_the_manager() {
    let mut w = World::start(1).await;
    w.drop_file("a.sh", "#!/bin/sh\nsleep 1; echo end\n");
    let id = w.running("a.sh").await;
    w.stop().await;
    w.boot().await;
    let (dir, again, _) = w.result("a.sh").await;
    assert_eq!((dir.as_str(), &again), ("done", &id));
    assert_eq!(w.job_file(&id, "stdout.txt"), "end\n");
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_supervisor_takes_the_job_along_and_is_reported() {
    let mut w = World::start(1).await;
    let pid_file = w.dir.path().join("alive");
    w.drop_file(
        "a.sh",
        &format!("#!/bin/sh\nwhile :; do date +%s%N > {}; sleep 0.02; done\n", pid_file.display()),
    );
    let id = w.running("a.sh").await;
    let manifest: serde_json::Value =
        serde_json::from_str(&w.job_file(&id, "units/0/manifest.json")).unwrap();
    let pid = i32::try_from(manifest["pid"].as_i64().unwrap()).unwrap();
    // The program has begun: else there is nothing that could go on running.
    while !pid_file.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL).unwrap();
    let (_, _, result) = w.result("a.sh").await;
    assert_eq!(result["state"], "NODE_FAIL", "{result}");
    let before = std::fs::read(&pid_file).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(std::fs::read(&pid_file).unwrap(), before, "the program still runs");
    w.stop().await;
}
