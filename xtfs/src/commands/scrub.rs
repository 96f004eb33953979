//! `xtfs scrub`: every OSD compares what it holds with its checksums and repairs what is damaged from other replicas.

use std::time::{Duration, Instant};

use clap::Args;
use proto::dir::{OsdEntry, OsdState};
use proto::error::WireError;
use proto::osd::{ScrubReply, ScrubRequest};
use serde_json::{Value, json};

use crate::address::VolumeUrl;
use crate::args::Global;
use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::output;

/// Compare all stored data with its checksums, and repair damage from other replicas
#[derive(Debug, Args)]
pub(crate) struct Scrub {
    /// xtfs://HOST[:PORT][/VOLUME]; without a volume everything is compared.
    url: Option<String>,
    /// Only tell of the damage that is known; compare nothing.
    #[arg(long)]
    dry_run: bool,
}

/// An answer of an OSD.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is asked how far it is.
const AGAIN: Duration = Duration::from_millis(200);
/// Silent or absent for so long while its scrub runs: it is given up.
const LOST: Duration = Duration::from_secs(30);

impl Scrub {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let url = self.url.as_deref().map(VolumeUrl::parse).transpose()?;
        let dirs = url.as_ref().map(|url| url.dirs.clone()).unwrap_or_default();
        let cluster = super::cluster(global, &dirs)?;
        let name = url.map(|url| url.volume).unwrap_or_default();
        super::run_async(async {
            let volume = if name.is_empty() { 0 } else { cluster.volume(&name).await?.volume };
            let map = cluster.map().await?;
            let rounds =
                map.osds.iter().filter(|osd| osd.serves()).map(|osd| self.one(&cluster, osd, volume));
            let done = futures::future::join_all(rounds).await;
            let absent: Vec<&OsdEntry> =
                map.osds.iter().filter(|osd| osd.state() == OsdState::Down).collect();
            if done.is_empty() {
                return Err(
                    Failure::unreachable("scrubbing", "no OSD is up").next("`xtfs osd ls` shows them")
                );
            }
            show(&done, &absent, global.json);
            let whole = done.iter().all(|(_, result)| {
                result.as_ref().is_ok_and(|reply| reply.left == 0 && reply.error.is_empty())
            });
            Ok(u8::from(!whole))
        })
    }

    async fn one<'a>(
        &self,
        cluster: &Cluster,
        osd: &'a OsdEntry,
        volume: u64,
    ) -> (&'a OsdEntry, Result<ScrubReply, WireError>) {
        let ask = |start| async move {
            let request = ScrubRequest { volume, start };
            cluster.call_one::<proto::osd::Scrub>(&osd.addr, &request, PATIENCE).await
        };
        let mut last = ask(!self.dry_run).await;
        let mut heard = Instant::now();
        while last.as_ref().map_or(heard.elapsed() < LOST, |reply| reply.running) {
            tokio::time::sleep(AGAIN).await;
            let next = ask(false).await;
            if next.is_ok() {
                heard = Instant::now();
            }
            last = next;
        }
        (osd, last)
    }
}

fn round_json(osd: &OsdEntry, result: &Result<ScrubReply, WireError>) -> Value {
    let name = format!("osd#{}", osd.osd);
    match result {
        Ok(reply) => json!({
            "osd": osd.osd, "name": name, "uuid": osd.uuid, "bytes": reply.bytes, "damaged": reply.found,
            "repaired": reply.mended, "left": reply.left,
            "blocks": reply.blocks.iter().map(|block| json!({
                "volume": block.volume, "ino": block.ino, "object": block.object, "block": block.block,
            })).collect::<Vec<Value>>(),
            "error": (!reply.error.is_empty()).then(|| reply.error.clone()),
        }),
        Err(error) => json!({"osd": osd.osd, "name": name, "uuid": osd.uuid, "error": error.to_string()}),
    }
}

fn show(done: &[(&OsdEntry, Result<ScrubReply, WireError>)], absent: &[&OsdEntry], json: bool) {
    let values: Vec<Value> = done.iter().map(|(osd, result)| round_json(osd, result)).collect();
    if json {
        return output::json(&json!({
            "osds": values,
            "not_scrubbed": absent.iter().map(|osd| osd.osd).collect::<Vec<u64>>(),
        }));
    }
    let text = |value: &Value, key: &str| match &value[key] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let row = |value: &Value| {
        let bytes = value["bytes"].as_u64().map(output::bytes).unwrap_or_default();
        let cells = ["damaged", "repaired", "left", "error"].map(|key| text(value, key));
        [text(value, "name"), bytes].into_iter().chain(cells).collect()
    };
    let rows: Vec<Vec<String>> = values.iter().map(row).collect();
    output::table(&["OSD", "COMPARED", "DAMAGED", "REPAIRED", "LEFT", ""], &rows, "no OSDs");
    for osd in absent {
        output::line(&format!("osd#{} ({}) is down and was not scrubbed", osd.osd, osd.addr));
    }
    for value in values.iter().filter(|value| value["left"].as_u64().unwrap_or(0) > 0) {
        for block in value["blocks"].as_array().into_iter().flatten() {
            output::line(&format!(
                "{}: block {} of object {} of ino-{} in volume {} is damaged, and no other OSD that is up has it; \
                 start OSDs that are down, or restore the file",
                text(value, "name"),
                block["block"],
                block["object"],
                block["ino"],
                block["volume"]
            ));
        }
    }
}
