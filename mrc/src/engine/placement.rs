//! Where the columns and replicas of a new file go.

use proto::dir::{OsdEntry, OsdMap, OsdState};
use proto::error::{Code, WireError};
use proto::id::OsdId;
use proto::stripe::{Column, Layout, Striping};

/// An OSD with less free than this gets no new file (unless it does not tell its capacity).
const FREE_BYTES_MIN: u64 = 16 << 20;

/// Chooses a layout: columns round robin over the OSDs that are up, starting where `seed` says; replicas of a column on
/// different OSDs, and in different failure domains as far as there are enough. Fewer columns than asked when there are
/// fewer OSDs; never fewer replicas.
pub fn place(map: &OsdMap, striping: Striping, seed: u64) -> Result<Layout, WireError> {
    let up: Vec<&OsdEntry> = map.osds.iter().filter(|osd| osd.state == OsdState::Up as i32).collect();
    let roomy: Vec<&OsdEntry> = up
        .iter()
        .copied()
        .filter(|osd| {
            osd.total_bytes == 0 || osd.free_bytes >= FREE_BYTES_MIN.max(u64::from(striping.stripe_bytes))
        })
        .collect();
    let replicas = striping.replicas.max(1) as usize;
    if up.len() < replicas {
        return Err(WireError::new(Code::Unavailable, missing(map, up.len(), replicas)));
    }
    if roomy.len() < replicas {
        return Err(WireError::new(
            Code::NoSpace,
            format!(
                "a new file needs {replicas} OSD(s) with space, {} of {} that are up have some; add OSDs or remove files",
                roomy.len(),
                up.len()
            ),
        ));
    }
    let columns = (striping.width.max(1) as usize).min(roomy.len());
    let start = usize::try_from(mix(seed) % roomy.len() as u64).expect("less than a length");
    let columns =
        (0..columns).map(|column| Column { osds: replica_list(&roomy, start + column, replicas) }).collect();
    Ok(Layout {
        stripe_bytes: striping.stripe_bytes,
        columns,
        replication: striping.replication,
        view: 1,
        previous: Vec::new(),
    })
}

fn missing(map: &OsdMap, up: usize, replicas: usize) -> String {
    let down: Vec<String> = map
        .osds
        .iter()
        .filter(|osd| osd.state == OsdState::Down as i32)
        .map(|osd| format!("{} at {}", OsdId(osd.osd), osd.addr))
        .collect();
    let down = if down.is_empty() {
        "none is registered beyond them".to_owned()
    } else {
        format!("down: {}", down.join(", "))
    };
    format!("a new file needs {replicas} OSD(s), {up} are up; {down}; start one")
}

/// The OSDs of one column: the first is the `first`-th, the others follow it round robin, those in new failure
/// domains before the rest.
fn replica_list(osds: &[&OsdEntry], first: usize, replicas: usize) -> Vec<u64> {
    let mut chosen: Vec<&OsdEntry> = Vec::with_capacity(replicas);
    for new_domain_only in [true, false] {
        for step in 0..osds.len() {
            let osd = osds[(first + step) % osds.len()];
            let known = chosen.iter().any(|other| other.osd == osd.osd);
            let shares = chosen.iter().any(|other| other.domain == osd.domain);
            if chosen.len() < replicas && !known && !(new_domain_only && shares) {
                chosen.push(osd);
            }
        }
    }
    chosen.into_iter().map(|osd| osd.osd).collect()
}

/// Spreads consecutive seeds (splitmix64).
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(domains: &[&str]) -> OsdMap {
        let osds = (1..).zip(domains).map(|(osd, domain)| OsdEntry {
            osd,
            uuid: String::new(),
            addr: format!("local://osd-{osd}"),
            state: OsdState::Up as i32,
            domain: (*domain).to_owned(),
            ..OsdEntry::default()
        });
        OsdMap { epoch: 1, osds: osds.collect(), dirs: Vec::new() }
    }

    fn striping(width: u32, replicas: u32) -> Striping {
        Striping { stripe_bytes: 1 << 20, width, replicas, replication: 0 }
    }

    #[test]
    fn columns_start_on_different_osds_and_every_osd_gets_its_share() {
        let map = map(&["a", "b", "c", "d"]);
        let mut first = [0u32; 5];
        for seed in 0..4000 {
            let layout = place(&map, striping(2, 1), seed).unwrap();
            assert_eq!(layout.columns.len(), 2);
            assert_eq!(layout.all_osds().len(), 2);
            first[usize::try_from(layout.columns[0].osds[0]).unwrap()] += 1;
        }
        assert!(first[1..].iter().all(|count| (850..1150).contains(count)), "{first:?}");
    }

    #[test]
    fn replicas_prefer_distinct_failure_domains() {
        let map = map(&["a", "a", "b", "b"]);
        for seed in 0..64 {
            for column in place(&map, striping(4, 2), seed).unwrap().columns {
                let [x, y] = column.osds[..] else { panic!("two replicas") };
                assert_ne!(x <= 2, y <= 2, "{column:?} lies in one domain");
            }
            for column in place(&map, striping(1, 4), seed).unwrap().columns {
                assert_eq!(column.osds.len(), 4);
            }
        }
    }

    #[test]
    fn too_few_osds_narrow_the_width_but_refuse_replicas() {
        assert_eq!(place(&map(&["a"]), striping(8, 1), 3).unwrap().columns.len(), 1);
        let error = place(&map(&["a"]), striping(1, 2), 3).unwrap_err();
        assert_eq!(error.code, Code::Unavailable);
        let mut full = map(&["a", "b"]);
        full.osds[0].total_bytes = 1 << 30;
        let error = place(&full, striping(1, 2), 3).unwrap_err();
        assert_eq!(error.code, Code::NoSpace);
    }
}
