//! Job ids: derived from the descriptor file, not generated, so that redoing a claim finds the same job.

use std::fmt;
use std::str::FromStr;

/// The job's id: `j-` and 16 characters of Crockford's base 32 in small letters.
///
/// 20 bits of the volume's id, 50 of the file's id, 10 of the generation (how many jobs the same file was before: a
/// failed descriptor moved back to `new/` is a new job).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct JobId(String);

/// A file becomes at most this many jobs, one after another.
pub const GENERATIONS_MAX: u16 = 1024;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const VOLUME_BITS: u32 = 20;
const FILE_BITS: u32 = 50;
const GENERATION_BITS: u32 = 10;
const CHARACTERS: u32 = (VOLUME_BITS + FILE_BITS + GENERATION_BITS) / 5;

impl JobId {
    /// The id of the job that file `file` of volume `volume` becomes as its `generation`-th.
    pub fn derive(volume: u64, file: u64, generation: u16) -> Self {
        assert!(generation < GENERATIONS_MAX, "the caller refuses such files");
        let mut bits = u128::from(volume & ((1 << VOLUME_BITS) - 1));
        bits = bits << FILE_BITS | u128::from(file & ((1 << FILE_BITS) - 1));
        bits = bits << GENERATION_BITS | u128::from(generation);
        let digit = |n: u32| ALPHABET[(bits >> (5 * n) & 31) as usize] as char;
        Self(format!("j-{}", (0..CHARACTERS).rev().map(digit).collect::<String>()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Text that is not a job id.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a job id; they look like j-0001000000000600")]
pub struct NotAJobId(String);

impl FromStr for JobId {
    type Err = NotAJobId;

    fn from_str(text: &str) -> Result<Self, NotAJobId> {
        let digits = text.strip_prefix("j-").unwrap_or("");
        let sound = digits.len() == CHARACTERS as usize && digits.bytes().all(|b| ALPHABET.contains(&b));
        if sound { Ok(Self(text.to_string())) } else { Err(NotAJobId(text.chars().take(80).collect())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_derived_and_distinct_in_each_part() {
        let id = JobId::derive(1, 6, 0);
        assert_eq!(id.as_str(), "j-0001000000000600");
        assert_eq!(id, "j-0001000000000600".parse().unwrap());
        assert_ne!(id, JobId::derive(2, 6, 0));
        assert_ne!(id, JobId::derive(1, 7, 0));
        assert_ne!(id, JobId::derive(1, 6, 1));
        for wrong in
            ["", "j-", "j-000100000000060", "j-000100000000060u", "x-0001000000000600", "j-../../../../../a"]
        {
            assert!(wrong.parse::<JobId>().is_err(), "{wrong}");
        }
    }
}
