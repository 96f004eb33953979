//! Logging to stderr, filtered with `RUST_LOG` syntax.
//!
//! Levels: ERROR somebody must act; WARN something is wrong and handled; INFO start, stop and changes of role;
//! DEBUG per request.

use tracing_subscriber::EnvFilter;

/// Starts logging for the process. `filter` wins over `RUST_LOG`; the default is `info`. A bad filter is an
/// error that says which directive is wrong. A second call changes nothing.
pub fn init(filter: Option<&str>) -> Result<(), String> {
    let from_env = std::env::var("RUST_LOG").ok();
    let text = filter.map(str::to_owned).or(from_env).unwrap_or_else(|| "info".to_owned());
    let filter = EnvFilter::try_new(&text)
        .map_err(|error| format!("log filter {text:?}: {error}; expected e.g. \"info,osd=debug\""))?;
    // Already initialised (tests, a second service in the process) is fine.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .try_init();
    Ok(())
}
