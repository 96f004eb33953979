//! Durations ("90s", "1h30m", "1:30:00", "2-12"), sizes ("2GiB"), signals and points in time as people write them.

/// Longest duration, milliseconds: ten years.
pub(super) const DURATION_MS_MAX: u64 = 10 * 366 * 86_400_000;

/// Milliseconds of `1h30m`, `90s`, `500ms`, `HH:MM[:SS]` or plain seconds.
pub(crate) fn duration_ms(text: &str) -> Option<u64> {
    let text = text.trim();
    if text.is_empty() || !text.is_ascii() {
        return None;
    }
    let value = if text.contains(':') { clock_ms(text)? } else { units_ms(text)? };
    (value <= DURATION_MS_MAX).then_some(value)
}

fn units_ms(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ms" => 1.0,
            "" | "s" | "sec" | "secs" | "second" | "seconds" => 1e3,
            "m" | "min" | "mins" | "minute" | "minutes" => 6e4,
            "h" | "hr" | "hour" | "hours" => 3.6e6,
            "d" | "day" | "days" => 8.64e7,
            "w" | "week" | "weeks" => 6.048e8,
            _ => return None,
        };
        rest = rest[letters..].trim_start();
        let part = number * unit;
        if !(0.0..1e15).contains(&part) {
            return None;
        }
        total = total.checked_add(part as u64)?;
    }
    Some(total)
}

fn clock_ms(text: &str) -> Option<u64> {
    let parts: Option<Vec<u64>> = text.split(':').map(|p| p.parse().ok()).collect();
    let seconds = match parts?.as_slice() {
        [h, m] => h.checked_mul(3600)?.checked_add(m.checked_mul(60)?)?,
        [h, m, s] => h.checked_mul(3600)?.checked_add(m.checked_mul(60)?)?.checked_add(*s)?,
        _ => return None,
    };
    seconds.checked_mul(1000)
}

/// Slurm's `--time`: minutes, `MM:SS`, `HH:MM:SS`, `D-HH`, `D-HH:MM`, `D-HH:MM:SS`.
pub(super) fn slurm_ms(text: &str) -> Option<u64> {
    let (days, rest) = match text.split_once('-') {
        Some((days, rest)) => (Some(days.parse::<u64>().ok()?), rest),
        None => (None, text),
    };
    let parts: Option<Vec<u64>> = rest.split(':').map(|p| p.parse().ok()).collect();
    let (h, m, s) = match (days.is_some(), parts?.as_slice()) {
        (false, [m]) => (0, *m, 0),
        (false, [m, s]) => (0, *m, *s),
        (_, [h, m, s]) => (*h, *m, *s),
        (true, [h]) => (*h, 0, 0),
        (true, [h, m]) => (*h, *m, 0),
        _ => return None,
    };
    let hours = days.unwrap_or(0).checked_mul(24)?.checked_add(h)?;
    let seconds = hours.checked_mul(3600)?.checked_add(m.checked_mul(60)?)?.checked_add(s)?;
    seconds.checked_mul(1000).filter(|ms| *ms <= DURATION_MS_MAX)
}

/// Bytes of `2GiB`, `512M`, `1.5 GB`, `4096`.
pub(super) fn size_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let unit: u64 = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    };
    let bytes = number * unit as f64;
    (1.0..9.0e18).contains(&bytes).then_some(bytes as u64)
}

/// The number of `USR1`, `SIGUSR1` or `10`.
pub fn signal_number(text: &str) -> Option<i32> {
    let upper = text.trim().to_ascii_uppercase();
    if let Ok(number) = upper.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    SIGNALS.iter().find(|(n, _)| *n == name).map(|(_, number)| *number)
}

/// The name of a signal, `SIGTERM`.
pub fn signal_name(number: i32) -> String {
    let found = SIGNALS.iter().find(|(_, n)| *n == number);
    found.map_or_else(|| format!("signal {number}"), |(name, _)| format!("SIG{name}"))
}

const SIGNALS: [(&str, i32); 27] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("SYS", libc::SIGSYS),
];

/// Milliseconds since 1970 of an RFC 3339 time; without a zone it is UTC, without a time midnight.
pub(super) fn moment_unix_ms(text: &str) -> Option<u64> {
    let text = text.trim().replacen(' ', "T", 1);
    let text = text.as_str();
    let stamp = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let zone = text.strip_suffix(['Z', 'z']).unwrap_or(text);
        let date_time = zone
            .parse::<jiff::civil::DateTime>()
            .ok()
            .or_else(|| zone.parse::<jiff::civil::Date>().ok().map(|d| d.at(0, 0, 0, 0)))?;
        date_time.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|z| z.timestamp())
    })?;
    u64::try_from(stamp.as_millisecond()).ok()
}
