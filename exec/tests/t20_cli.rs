//! The commands on a served spool.
#![cfg(test)]

#[path = "local/world.rs"]
mod world;

use std::path::PathBuf;
use std::time::Duration;

use exec::cli::{Action, CliError, JobCommand, Submit, run};
use world::World;

/// Runs a command as the binary would, off the runtime's threads.
async fn xtfs(spool: PathBuf, command: JobCommand, json: bool) -> (Result<i32, CliError>, String) {
    tokio::task::spawn_blocking(move || {
        let mut out = Vec::new();
        let result = run(&spool, &command, json, &mut out);
        (result, String::from_utf8(out).unwrap())
    })
    .await
    .unwrap()
}

fn submit(words: &[&str]) -> JobCommand {
    let command = words.iter().map(|w| (*w).to_string()).collect();
    JobCommand::Submit(Submit { command, ..Submit::default() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn submit_wait_log_show() {
    let mut w = World::start(2).await;
    let spool = w.dir.path().join("spool");
    let (status, id) = xtfs(spool.clone(), submit(&["sh", "-c", "echo {id} $PWD; exit 7"]), false).await;
    assert_eq!(status.unwrap(), 0);
    let id = id.trim().to_string();
    assert!(id.starts_with("j-"), "{id}");
    let wait = JobCommand::Wait { id: id.clone(), timeout: Some(Duration::from_secs(10)) };
    assert_eq!(xtfs(spool.clone(), wait, false).await.0.unwrap(), 7, "wait gives the job's exit status");
    let (status, text) =
        xtfs(spool.clone(), JobCommand::Log { id: id.clone(), stderr: false, follow: false }, false).await;
    let here = std::env::current_dir().unwrap();
    assert_eq!(
        (status.unwrap(), text),
        (0, format!("{{id}} {}\n", here.display())),
        "braces and directory as typed"
    );
    let (_, text) = xtfs(spool.clone(), JobCommand::Show { id: id.clone() }, true).await;
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&value["state"], &value["exit_code"]), (&"FAILED".into(), &7.into()));
    assert_eq!(value["events"][0]["e"], "submit");
    let (status, again) = xtfs(spool.clone(), JobCommand::Requeue { id: id.clone() }, false).await;
    assert_eq!(status.unwrap(), 0);
    assert_ne!(again.trim(), id);
    let wait = JobCommand::Wait { id: again.trim().to_string(), timeout: Some(Duration::from_secs(10)) };
    assert_eq!(xtfs(spool.clone(), wait, false).await.0.unwrap(), 7);
    let (_, text) = xtfs(spool.clone(), JobCommand::Why { id: id.clone() }, false).await;
    assert!(text.contains("exit status 7"), "{text}");
    let (_, text) = xtfs(spool.clone(), JobCommand::Ls { all: true, user: None }, true).await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap()[0]["id"], id.as_str());
    let (error, _) = xtfs(spool, JobCommand::Show { id: "j-nonsense".into() }, false).await;
    assert!(error.unwrap_err().to_string().contains("is not a job id"));
    w.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_and_errors() {
    let mut w = World::start(1).await;
    let spool = w.dir.path().join("spool");
    let (_, id) = xtfs(spool.clone(), submit(&["sleep", "100"]), false).await;
    let id = id.trim().to_string();
    let control = |action| JobCommand::Control { id: id.clone(), action };
    let (status, text) = xtfs(spool.clone(), control(Action::Suspend), false).await;
    assert_eq!((status.unwrap(), text), (0, format!("{id}: suspended\n")));
    let (error, _) = xtfs(spool.clone(), control(Action::Signal("NOPE".into())), false).await;
    assert!(error.unwrap_err().to_string().contains("`NOPE` is not a signal"));
    let (error, _) = xtfs(spool.clone(), control(Action::Hold), false).await;
    assert!(error.unwrap_err().to_string().contains("it runs already"));
    let short = JobCommand::Wait { id: id.clone(), timeout: Some(Duration::from_millis(50)) };
    let error = xtfs(spool.clone(), short, false).await.0.unwrap_err();
    assert_eq!(error.exit_status(), 3);
    let cancel = Action::Cancel { reason: Some("enough".into()), grace: Some(Duration::from_secs(1)) };
    let (status, _) = xtfs(spool.clone(), control(cancel), true).await;
    assert_eq!(status.unwrap(), 0);
    let wait = JobCommand::Wait { id: id.clone(), timeout: Some(Duration::from_secs(10)) };
    assert_eq!(xtfs(spool.clone(), wait, false).await.0.unwrap(), 128 + 15);
    // A file with errors: they are shown, and the exit status says so.
    let file = w.dir.path().join("bad.toml");
    std::fs::write(&file, "exce = \"/bin/true\"\n").unwrap();
    let what = Submit { file: Some(file), ..Submit::default() };
    let error = xtfs(spool.clone(), JobCommand::Submit(what), false).await.0.unwrap_err();
    assert!(error.to_string().contains("did you mean `exec`?"), "{error}");
    w.stop().await;
}
