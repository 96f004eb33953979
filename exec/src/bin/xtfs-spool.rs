//! Serves the spool of a local or mounted directory, without a cluster: `xtfs-spool ROOT [CORES]`. The crash tests kill it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use exec::store::LocalStore;
use exec::{Exec, ExecConfig};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(root) = arguments.first().map(PathBuf::from) else {
        eprintln!("usage: xtfs-spool ROOT [CORES]");
        return ExitCode::from(2);
    };
    let cores = arguments.get(1).and_then(|c| c.parse().ok()).unwrap_or(1);
    match serve(root, cores) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtfs-spool: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(root: PathBuf, cores: u32) -> Result<(), Box<dyn std::error::Error>> {
    let supervise = std::env::current_exe()?.with_file_name("xtfs-supervise");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let store = Arc::new(LocalStore::open(&root, 1)?);
        let config = ExecConfig {
            node: "n1".into(),
            cores,
            poll_busy: Duration::from_millis(50),
            poll_idle: Duration::from_millis(100),
            data_dir: root.join("data"),
            make_user_dirs: false,
            ..ExecConfig::new(store, root, vec![supervise.to_string_lossy().into_owned()])
        };
        let exec = Exec::start(config).await?;
        tokio::signal::ctrl_c().await?;
        exec.shutdown().await;
        Ok(())
    })
}
