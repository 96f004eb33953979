//! "Did you mean": the nearest known word.

/// Words of other systems for our keys.
const ALIASES: [(&str, &str); 22] = [
    ("arguments", "args"),
    ("argv", "args"),
    ("command", "exec"),
    ("cmd", "exec"),
    ("executable", "exec"),
    ("program", "exec"),
    ("environment", "env"),
    ("output", "stdout"),
    ("error", "stderr"),
    ("mem", "memory"),
    ("ram", "memory"),
    ("cpu", "cpus"),
    ("cores", "cpus"),
    ("ncpus", "cpus"),
    ("walltime", "time"),
    ("timeout", "time"),
    ("time_limit", "time"),
    ("workdir", "cwd"),
    ("directory", "cwd"),
    ("chdir", "cwd"),
    ("retries", "max"),
    ("start_time", "begin"),
];

/// The known word that `word` most likely stands for.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let lower = word.to_lowercase().replace('-', "_");
    if let Some(alias) = ALIASES.iter().find(|(from, _)| *from == lower)
        && let Some(found) = known.iter().find(|k| **k == alias.1)
    {
        return Some(found);
    }
    let near = known.iter().map(|k| (distance(&lower, k), *k)).min()?;
    let allowed = if lower.chars().count() <= 4 { 1 } else { 2 };
    (near.0 <= allowed).then_some(near.1)
}

/// Edits between two words; long words are not compared.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(40).collect(), b.chars().collect());
    let sorted = |word: &[char]| {
        let mut word = word.to_vec();
        word.sort_unstable();
        word
    };
    if a != b && sorted(&a) == sorted(&b) {
        // Letters changed places: one slip.
        return 1;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let up = row[j + 1];
            row[j + 1] = (diagonal + usize::from(x != y)).min(up + 1).min(row[j] + 1);
            diagonal = up;
        }
    }
    row[b.len()]
}
