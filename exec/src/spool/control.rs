//! `jobs/ID/control/`: wishes of the user, each answered in `control/.done/`.

use super::{Hands, job_path};
use crate::engine::{Control, Verb};
use crate::id::JobId;
use crate::spec::signal_number;
use crate::store::{Kind, Put, RenameMode, StoreError};

/// Wishes read in one look.
const WISHES_MAX: usize = 64;
/// Largest control file, bytes.
const CONTROL_BYTES_MAX: usize = 4096;
/// Between TERM and KILL when the wish does not say, milliseconds.
const GRACE_MS: u64 = crate::engine::GRACE_MS;

/// What a look found.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) sound: Vec<Control>,
    /// File and what is wrong with it.
    pub(crate) faulty: Vec<(String, String)>,
}

impl Hands {
    /// The wishes in a job's control directory, oldest first.
    pub(crate) async fn wishes(&self, user: &str, id: &JobId) -> Result<Wishes, StoreError> {
        let dir = job_path(user, id, "control");
        let mut found = Vec::new();
        for entry in self.store.list(&dir, WISHES_MAX).await? {
            if super::classify(&entry.name) != super::NameClass::Accepted {
                continue;
            }
            let path = format!("{dir}/{}", entry.name);
            let Ok(stat) = self.store.stat(&path).await else { continue };
            found.push((stat.mtime_ns, entry, path));
        }
        found.sort_by(|a, b| (a.0, &a.1.name).cmp(&(b.0, &b.1.name)));
        let mut out = Wishes::default();
        for (_, entry, path) in found {
            if entry.kind != Kind::File {
                out.faulty.push((entry.name, "not a regular file".into()));
                continue;
            }
            let bytes = match self.store.read(&path, CONTROL_BYTES_MAX).await {
                Ok(bytes) => bytes,
                Err(error) if error.is_missing() => continue,
                Err(error) => {
                    out.faulty.push((entry.name, error.to_string()));
                    continue;
                }
            };
            match parse(&entry.name, &String::from_utf8_lossy(&bytes)) {
                Ok((verb, text)) => out.sound.push(Control { file: Some(entry.name), verb, text }),
                Err(text) => out.faulty.push((entry.name, text)),
            }
        }
        Ok(out)
    }

    /// Consumes a control file and puts the answer beside it.
    pub(crate) async fn answer(
        &self,
        user: &str,
        id: &JobId,
        file: &str,
        ok: bool,
        text: &str,
    ) -> Result<(), StoreError> {
        let dir = job_path(user, id, "control/.done");
        let owner = self.account(user).map(|a| a.owner());
        self.store.mkdir(&dir, 0o700, owner).await?;
        let number = self.now_ms();
        let word = if ok { "ok" } else { "error" };
        let put = Put { mode: 0o644, owner, sync: false };
        let result = format!("{word}: {text}\n");
        self.store.replace(&format!("{dir}/{number}-{file}.result"), result.as_bytes(), put).await?;
        let from = job_path(user, id, &format!("control/{file}"));
        match self.store.rename(&from, &format!("{dir}/{number}-{file}"), RenameMode::Replace).await {
            Err(error) if !error.is_missing() => Err(error),
            _ => Ok(()),
        }
    }
}

/// What a control file of that name with that text wishes.
fn parse(name: &str, text: &str) -> Result<(Verb, String), String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let plain = || words.join(" ").chars().take(200).collect::<String>();
    let verb = match name {
        "cancel" => {
            let mut grace_ms = GRACE_MS;
            let mut reason = Vec::new();
            for word in &words {
                match word.strip_prefix("grace=") {
                    Some(value) => {
                        grace_ms = crate::spec::duration_ms(value)
                            .ok_or_else(|| format!("grace={value}: expected a duration such as 30s"))?;
                    }
                    None => reason.push(*word),
                }
            }
            let reason: String = reason.join(" ").chars().take(200).collect();
            let reason = if reason.is_empty() { "by the user".into() } else { reason };
            return Ok((Verb::Cancel { grace_ms }, reason));
        }
        "signal" => {
            let word = words.first().copied().unwrap_or("TERM");
            if words.len() > 1 {
                return Err(format!("`{}` is not supported yet; write only the signal", words[1]));
            }
            Verb::Signal(signal_number(word).ok_or_else(|| format!("`{word}` is not a signal"))?)
        }
        "suspend" => Verb::Suspend,
        "resume" => Verb::Resume,
        "hold" => Verb::Hold,
        "release" => Verb::Release,
        "checkpoint" | "resize" | "note" | "set" => return Err(format!("`{name}` is not supported yet")),
        _ => {
            return Err(format!(
                "`{name}` is not known; known: cancel, signal, suspend, resume, hold, release"
            ));
        }
    };
    Ok((verb, plain()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_read_or_refused_in_words() {
        assert_eq!(parse("cancel", "").unwrap().0, Verb::Cancel { grace_ms: GRACE_MS });
        let (verb, text) = parse("cancel", "enough now grace=30s\n").unwrap();
        assert_eq!((verb, text.as_str()), (Verb::Cancel { grace_ms: 30_000 }, "enough now"));
        assert_eq!(parse("signal", "USR1\n").unwrap().0, Verb::Signal(libc::SIGUSR1));
        assert!(parse("signal", "NOPE").unwrap_err().contains("`NOPE`"));
        assert!(parse("cancle", "").unwrap_err().contains("not known"));
        assert!(parse("checkpoint", "").unwrap_err().contains("not supported yet"));
    }
}
