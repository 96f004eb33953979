//! Whether all replicas are in sync, as the OSDs that lead them say: for `xtfs status` and `xtfs doctor`.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::dir::{OsdEntry, OsdState};
use proto::osd::{OsdStatus, Status};
use proto::rpc::Empty;
use serde_json::{Value, json};

use super::service::state_name;
use crate::cluster::Cluster;

/// How long an OSD may take to tell.
const PATIENCE: Duration = Duration::from_millis(700);

/// Asks every OSD that serves what lags at whom.
pub(super) async fn gather(cluster: &Cluster, osds: &[OsdEntry]) -> Value {
    let asked = osds.iter().filter(|osd| osd.serves()).map(|osd| async move {
        (osd.osd, cluster.call_one::<Status>(&osd.addr, &Empty {}, PATIENCE).await.ok())
    });
    let told = futures::future::join_all(asked).await;
    summary(osds, &told)
}

/// What the answers say together.
fn summary(osds: &[OsdEntry], told: &[(u64, Option<OsdStatus>)]) -> Value {
    let mut behind: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let (mut columns, mut damaged, mut mended) = (0, 0, 0);
    let (mut moved, mut objects, mut patches) = (0, 0, 0);
    for status in told.iter().filter_map(|(_, status)| status.as_ref()) {
        columns += status.columns_led;
        damaged += status.damaged_blocks;
        mended += status.damage_mended;
        moved += status.resync_bytes;
        objects += status.resync_objects;
        patches += status.resync_patches;
        for one in &status.behind {
            let sum = behind.entry(one.osd).or_default();
            (sum.0, sum.1) = (sum.0 + one.columns, sum.1 + one.objects);
        }
    }
    let state_of =
        |osd: u64| osds.iter().find(|entry| entry.osd == osd).map_or(OsdState::Out, OsdEntry::state);
    let silent: Vec<u64> = told.iter().filter(|(_, status)| status.is_none()).map(|(osd, _)| *osd).collect();
    let down: Vec<u64> = osds.iter().filter(|osd| osd.state() == OsdState::Down).map(|osd| osd.osd).collect();
    let mut lines: Vec<String> = behind
        .iter()
        .map(|(osd, (columns, objects))| line(*osd, state_of(*osd), *columns, *objects))
        .collect();
    lines.extend(
        down.iter()
            .filter(|osd| !behind.contains_key(osd))
            .map(|osd| format!("osd#{osd} is down; what changes meanwhile is copied to it when it is back")),
    );
    lines.extend(silent.iter().map(|osd| format!("osd#{osd} did not say what lags")));
    let in_sync = lines.is_empty();
    if in_sync {
        lines.push("all in sync".to_owned());
    }
    let behind: Vec<Value> = behind
        .iter()
        .map(|(osd, (columns, objects))| {
            json!({
                "osd": osd, "name": format!("osd#{osd}"), "state": state_name(state_of(*osd)),
                "columns": columns, "objects": objects,
            })
        })
        .collect();
    json!({
        "in_sync": in_sync,
        "columns_led": columns,
        "behind": behind,
        "silent": silent,
        "down": down,
        "damaged_blocks": damaged,
        "damage_mended": mended,
        "resync_bytes": moved,
        "resync_objects": objects,
        "resync_patches": patches,
        "text": lines,
    })
}

fn line(osd: u64, state: OsdState, columns: u64, objects: u64) -> String {
    match (state, objects) {
        (OsdState::Up | OsdState::Draining, 0) => format!("{columns} columns being compared with osd#{osd}"),
        (OsdState::Up | OsdState::Draining, _) => format!("{objects} objects behind on osd#{osd}, repairing"),
        (OsdState::Down, _) => format!("{columns} columns changed or in use while osd#{osd} is down"),
        (OsdState::Out, _) => {
            format!(
                "{columns} columns have a replica too few: osd#{osd} is out, and their lists still name it"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::osd::Behind;

    use super::*;

    fn osd(number: u64, state: OsdState) -> OsdEntry {
        OsdEntry { osd: number, state: state as i32, ..OsdEntry::default() }
    }

    fn told(behind: &[(u64, u64, u64)]) -> OsdStatus {
        let behind = behind.iter().map(|(osd, columns, objects)| Behind {
            osd: *osd,
            columns: *columns,
            objects: *objects,
        });
        OsdStatus { columns_led: 5, behind: behind.collect(), ..OsdStatus::default() }
    }

    #[test]
    fn what_lags_is_summed_over_those_who_lead() {
        let osds = [osd(1, OsdState::Up), osd(2, OsdState::Up), osd(3, OsdState::Down)];
        let value = summary(
            &osds,
            &[(1, Some(told(&[(2, 1, 7), (3, 2, 0)]))), (2, Some(told(&[(2, 1, 3), (3, 1, 0)])))],
        );
        assert_eq!(value["in_sync"], false);
        assert_eq!(value["behind"][0]["objects"], 10);
        assert_eq!(
            value["text"],
            json!([
                "10 objects behind on osd#2, repairing",
                "3 columns changed or in use while osd#3 is down"
            ])
        );
    }

    #[test]
    fn in_sync_is_only_said_when_everybody_says_so() {
        let osds = [osd(1, OsdState::Up), osd(2, OsdState::Up)];
        assert_eq!(
            summary(&osds, &[(1, Some(told(&[]))), (2, Some(told(&[])))])["text"],
            json!(["all in sync"])
        );
        let value = summary(&osds, &[(1, Some(told(&[]))), (2, None)]);
        assert_eq!(
            (&value["in_sync"], &value["text"][0]),
            (&json!(false), &json!("osd#2 did not say what lags"))
        );
        let value = summary(&[osd(1, OsdState::Up), osd(2, OsdState::Down)], &[(1, Some(told(&[])))]);
        assert_eq!(value["in_sync"], false);
    }
}
