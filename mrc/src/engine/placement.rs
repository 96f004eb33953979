//! Where the columns and replicas of a new file go.

use proto::dir::{OsdEntry, OsdMap, OsdState};
use proto::error::{Code, WireError};
use proto::id::OsdId;
use proto::stripe::{Coding, Column, Layout, Striping};

/// Chooses a layout: columns round robin over the OSDs that are up, starting where `seed` says; replicas of a column on
/// different OSDs, and in different failure domains as far as there are enough. Fewer columns than asked when there are
/// fewer OSDs; never fewer replicas. OSDs that weigh more than others are chosen more often, those that weigh nothing never.
pub fn place(map: &OsdMap, striping: Striping, seed: u64) -> Result<Layout, WireError> {
    let up: Vec<&OsdEntry> = map.osds.iter().filter(|osd| osd.state == OsdState::Up as i32).collect();
    let weighty: Vec<&OsdEntry> = up.iter().copied().filter(|osd| osd.weight() > 0).collect();
    let mut roomy: Vec<&OsdEntry> = weighty.iter().copied().filter(|osd| osd.has_room()).collect();
    let replicas = striping.replicas.max(1) as usize;
    if up.len() < replicas {
        return Err(WireError::new(Code::Unavailable, missing(map, up.len(), replicas)));
    }
    if weighty.len() < replicas {
        return Err(weightless(map, (up.len(), up.len() - weighty.len()), replicas));
    }
    if roomy.len() < replicas {
        return Err(WireError::new(
            Code::NoSpace,
            format!(
                "a new file needs {replicas} OSD(s) with space, {} of {} that are up have some; add OSDs or remove files",
                roomy.len(),
                weighty.len()
            ),
        ));
    }
    let columns = (striping.width.max(1) as usize).min(roomy.len());
    let start = if roomy.iter().all(|osd| osd.weight() == roomy[0].weight()) {
        usize::try_from(mix(seed) % roomy.len() as u64).expect("less than a length")
    } else {
        draw(&mut roomy, seed);
        0
    };
    let columns =
        (0..columns).map(|column| Column { osds: replica_list(&roomy, start + column, replicas) }).collect();
    Ok(Layout {
        stripe_bytes: striping.stripe_bytes,
        columns,
        replication: striping.replication,
        view: 1,
        ..Layout::default()
    })
}

/// The map as if those that are down came back, and room were made.
#[must_use]
pub fn at_their_best(map: &OsdMap) -> OsdMap {
    let mut map = map.clone();
    for osd in &mut map.osds {
        if osd.state == OsdState::Down as i32 {
            osd.state = OsdState::Up as i32;
        }
        osd.total_bytes = 0;
    }
    map
}

/// Chooses the OSDs of erasure-coded data: one for each object of a group, in different failure domains as far as there are
/// enough. Never fewer than the code needs.
pub fn place_group(map: &OsdMap, coding: Coding, seed: u64) -> Result<Vec<Column>, WireError> {
    let fits = |osd: &&OsdEntry| osd.state == OsdState::Up as i32 && osd.weight() > 0 && osd.has_room();
    let mut fit: Vec<&OsdEntry> = map.osds.iter().filter(fits).collect();
    let width = coding.width() as usize;
    if fit.len() < width {
        return Err(WireError::new(
            Code::NoSpace,
            format!(
                "erasure coding {coding} needs {width} OSDs, {} of {} are up with space and weight; files stay replicated until \
                 there are enough (`xtfs osd ls`)",
                fit.len(),
                map.osds.iter().filter(|osd| osd.state != OsdState::Out as i32).count()
            ),
        ));
    }
    draw(&mut fit, seed);
    let chosen = replica_list(&fit, 0, width);
    Ok(chosen.into_iter().map(|osd| Column { osds: vec![osd] }).collect())
}

/// Too few of those that are up weigh anything. Worth waiting for when others that do may come back.
fn weightless(map: &OsdMap, (up, weightless): (usize, usize), replicas: usize) -> WireError {
    let may_come = |osd: &&OsdEntry| osd.weight() > 0 && matches!(osd.state(), OsdState::Up | OsdState::Down);
    let code =
        if map.osds.iter().filter(may_come).count() < replicas { Code::NoSpace } else { Code::Unavailable };
    let text = format!(
        "a new file needs {replicas} OSD(s), {weightless} of {up} that are up weigh nothing; `xtfs osd weight OSD 100` lets one have files"
    );
    WireError::new(code, text)
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

/// Brings the OSDs into an order in which each comes first as often as it weighs (and second as often as it weighs among the
/// rest): every one draws a waiting time, shorter in the mean the more it weighs.
fn draw(osds: &mut [&OsdEntry], seed: u64) {
    let waits = |osd: &OsdEntry| {
        // 52 bits and a half: never 0, never 1.
        let uniform = ((mix(mix(seed) ^ osd.osd) >> 12) as f64 + 0.5) / (1u64 << 52) as f64;
        -uniform.ln() / f64::from(osd.weight())
    };
    osds.sort_by(|x, y| waits(x).total_cmp(&waits(y)));
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
        Striping { stripe_bytes: 1 << 20, width, replicas, replication: 0, coding: None }
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

    fn weighing(weights: &[u32]) -> OsdMap {
        let domains: Vec<String> = (0..weights.len()).map(|domain| domain.to_string()).collect();
        let mut map = map(&domains.iter().map(String::as_str).collect::<Vec<_>>());
        for (osd, weight) in map.osds.iter_mut().zip(weights) {
            osd.weight = Some(*weight);
        }
        map
    }

    #[test]
    fn who_weighs_more_is_first_more_often_and_who_weighs_nothing_gets_nothing() {
        let map = weighing(&[100, 300, 0, 100]);
        let (mut first, mut any) = ([0u32; 5], [0u32; 5]);
        for seed in 0..5000 {
            let layout = place(&map, striping(1, 2), seed).unwrap();
            let osds = &layout.columns[0].osds;
            assert_ne!(osds[0], osds[1]);
            first[usize::try_from(osds[0]).unwrap()] += 1;
            osds.iter().for_each(|osd| any[usize::try_from(*osd).unwrap()] += 1);
        }
        // 1/5, 3/5 and 1/5 of 5,000.
        assert!((900..1100).contains(&first[1]) && (900..1100).contains(&first[4]), "{first:?}");
        assert!((2850..3150).contains(&first[2]), "{first:?}");
        assert_eq!((first[3], any[3]), (0, 0));
        // Second: of those with 1 or 4 first, 2 comes with 3/4; else each with 1/2.
        assert!((4400..4600).contains(&any[2]), "{any:?}");
    }

    #[test]
    fn a_group_lies_on_osds_of_its_own_and_in_domains_of_its_own() {
        let coding = Coding { data: 2, parity: 1 };
        let map = map(&["a", "a", "b", "c", "c"]);
        for seed in 0..64 {
            let columns = place_group(&map, coding, seed).unwrap();
            let osds: Vec<u64> = columns.iter().flat_map(|column| column.osds.clone()).collect();
            let domains: std::collections::BTreeSet<&str> =
                osds.iter().map(|osd| map.osds[usize::try_from(osd - 1).unwrap()].domain.as_str()).collect();
            assert_eq!((osds.len(), domains.len()), (3, 3), "{osds:?}");
            let columns = place_group(&map, Coding { data: 4, parity: 1 }, seed).unwrap();
            let osds: std::collections::BTreeSet<u64> = columns.iter().map(|column| column.osds[0]).collect();
            assert_eq!(osds.len(), 5, "with too few domains different OSDs");
        }
        let error = place_group(&map, Coding { data: 4, parity: 2 }, 1).unwrap_err();
        assert!(error.text.contains("needs 6 OSDs, 5 of 5"), "{}", error.text);
    }

    #[test]
    fn equal_weights_are_as_none() {
        for seed in 0..50 {
            let plain = place(&map(&["0", "1", "2"]), striping(2, 2), seed).unwrap();
            assert_eq!(place(&weighing(&[7, 7, 7]), striping(2, 2), seed).unwrap(), plain);
            assert_eq!(place(&weighing(&[100, 100, 100]), striping(2, 2), seed).unwrap(), plain);
        }
    }

    #[test]
    fn columns_and_replicas_stay_apart_whatever_they_weigh() {
        for seed in 0..200 {
            let layout = place(&weighing(&[1, 1000, 30, 100]), striping(4, 3), seed).unwrap();
            assert_eq!(layout.columns.len(), 4);
            let firsts: std::collections::BTreeSet<u64> =
                layout.columns.iter().map(|column| column.osds[0]).collect();
            assert_eq!(firsts.len(), 4);
            for column in layout.columns {
                let osds: std::collections::BTreeSet<u64> = column.osds.iter().copied().collect();
                assert_eq!(osds.len(), 3);
            }
        }
        let mut map = weighing(&[100, 0, 0, 100]);
        map.osds[3].state = OsdState::Down as i32;
        let error = place(&map, striping(1, 2), 1).unwrap_err();
        assert_eq!(error.code, Code::Unavailable, "4 may come back");
        map.osds[3].state = OsdState::Draining as i32;
        let error = place(&map, striping(1, 2), 1).unwrap_err();
        assert_eq!(error.code, Code::NoSpace);
        assert!(error.text.contains("2 of 3") && error.text.contains("osd weight"), "{}", error.text);
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
