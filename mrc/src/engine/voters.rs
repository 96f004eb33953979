//! Policy `all`: who loses its vote because it is down. Pure. `docs/protocols/replication.md`, "Policy `all`".

use proto::dir::OsdMap;
use proto::error::{Code, WireError};
use proto::id::Ino;
use proto::stripe::Layout;

/// The learners of a layout and, with them, its voters that are down.
pub fn without_down(map: &OsdMap, ino: u64, layout: &Layout) -> Result<Vec<u64>, WireError> {
    if !layout.is_all() {
        let why = format!("the replicas of {} agree by majority: none of them has to be taken out", Ino(ino));
        return Err(WireError::new(Code::InvalidArgument, why));
    }
    let serves = |osd: u64| map.osds.iter().any(|entry| entry.osd == osd && entry.serves());
    let votes = |osd: &u64| !layout.learners.contains(osd);
    let down: Vec<u64> =
        layout.all_osds().iter().map(|osd| osd.0).filter(|osd| votes(osd) && !serves(*osd)).collect();
    if down.is_empty() {
        let why = format!("all replicas of {} that count are up (map {}); try again", Ino(ino), map.epoch);
        return Err(WireError::new(Code::Busy, why));
    }
    let left = |osds: &[u64]| osds.iter().any(|osd| votes(osd) && serves(*osd));
    if let Some(index) = layout.columns.iter().position(|column| !left(&column.osds)) {
        let why = format!(
            "no replica of column {index} of {} that has everything is up; start one of its OSDs ({:?}; `xtfs osd ls`)",
            Ino(ino),
            layout.columns[index].osds
        );
        return Err(WireError::new(Code::Unavailable, why));
    }
    Ok(layout.learners.iter().copied().chain(down).collect())
}

#[cfg(test)]
mod tests {
    use proto::dir::{OsdEntry, OsdState};
    use proto::stripe::{Column, Replication};

    use super::*;

    fn map(up: &[bool]) -> OsdMap {
        let state = |up: &bool| if *up { OsdState::Up } else { OsdState::Down } as i32;
        let osds = (1..).zip(up).map(|(osd, up)| OsdEntry { osd, state: state(up), ..OsdEntry::default() });
        OsdMap { epoch: 9, osds: osds.collect(), dirs: Vec::new() }
    }

    fn layout(columns: &[&[u64]], learners: &[u64]) -> Layout {
        let columns = columns.iter().map(|osds| Column { osds: osds.to_vec() }).collect();
        let replication = Replication::All as i32;
        Layout { columns, replication, learners: learners.to_vec(), view: 1, ..Layout::default() }
    }

    #[test]
    fn who_is_down_loses_its_vote_and_who_is_up_keeps_it() {
        let map = map(&[true, false, true, false]);
        assert_eq!(without_down(&map, 5, &layout(&[&[1, 2]], &[])).unwrap(), [2]);
        assert_eq!(without_down(&map, 5, &layout(&[&[2, 3], &[3, 4]], &[])).unwrap(), [2, 4]);
        assert_eq!(without_down(&map, 5, &layout(&[&[1, 2, 4]], &[4])).unwrap(), [4, 2]);
        let refused = |layout: &Layout| without_down(&map, 5, layout).unwrap_err().code;
        assert_eq!(refused(&layout(&[&[1, 3]], &[])), Code::Busy);
        assert_eq!(refused(&layout(&[&[1, 2]], &[2])), Code::Busy, "it has no vote to lose");
        assert_eq!(refused(&layout(&[&[1, 3], &[2, 4]], &[])), Code::Unavailable, "nobody would be left");
        assert_eq!(refused(&layout(&[&[1, 2]], &[1])), Code::Unavailable, "who is up may lack something");
        assert_eq!(refused(&Layout { replication: 1, ..layout(&[&[1, 2]], &[]) }), Code::InvalidArgument);
    }
}
