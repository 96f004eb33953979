//! Without faults all replicas of a column become equal, and the primary's count of what is not in sync says zero.

use std::collections::BTreeMap;

use super::Violation;

/// A replica's objects: number -> (epoch, number of the version, hash of the content).
pub type Objects = BTreeMap<u64, (u64, u64, u64)>;

/// See the module: `replicas` are all of a column, `lag` what its primary counts.
pub fn converged(column: u64, replicas: &[(u64, Objects)], lag: (usize, usize)) -> Result<(), Violation> {
    if let Some(((one, objects), (other, _))) =
        replicas.iter().zip(replicas.iter().skip(1)).find(|((_, a), (_, b))| a != b)
    {
        let what =
            format!("column {column}: OSD {one} and {other} differ, {} objects at the first", objects.len());
        return Err(Violation::new("replicas converge", what));
    }
    if lag != (0, 0) {
        let what = format!("column {column}: all are equal, the primary counts {lag:?} not in sync");
        return Err(Violation::new("replicas converge", what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_fail() {
        let one = Objects::from([(1, (2, 3, 4))]);
        let two = Objects::from([(1, (2, 3, 5))]);
        assert!(converged(1, &[(1, one.clone()), (2, one.clone())], (0, 0)).is_ok());
        assert!(converged(1, &[(1, one.clone()), (2, two)], (0, 0)).is_err());
        assert!(converged(1, &[(1, one.clone()), (2, one)], (1, 0)).is_err());
    }
}
