//! `xtfs info`: what the cluster knows of a file: layout, where its objects are, who uses it.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use client::volume::snapshots::FIRST_OF_PAST;
use client::{Client, ClientConfig, Patience, Volume};
use proto::mrc::{Attr, CloseRequest, LayoutReply, OpenRequest, kind};
use proto::osd::{ObjectStat, StatObjects, StatObjectsRequest};
use serde_json::{Value, json};

use super::mkfs::replication_name;
use crate::args::Global;
use crate::cluster::{Cluster, head};
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::place::{Place, creds, place, resolve};

/// Show a file's layout, its OSDs and the objects on each
#[derive(Debug, Args)]
pub(crate) struct Info {
    /// A path on a mounted volume, or xtfs://HOST/VOLUME/PATH.
    path: String,
    /// List every object, not only totals per OSD.
    #[arg(long)]
    objects: bool,
}

/// Objects asked for in one call.
const PAGE: u32 = 1024;
/// How long an OSD may take for a page.
const OSD_PATIENCE: Duration = Duration::from_secs(3);

impl Info {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let place = place(&self.path)?;
        let cluster = super::cluster(global, &place.dirs)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| Failure::new("starting the runtime", error))?;
        runtime.block_on(async {
            let what = format!("information on {}", self.path);
            let mut config = ClientConfig::new(cluster.dirs.clone(), "xtfs info");
            config.patience = Patience::For(global.timeout);
            let gathered = self.gather(config, &place, &cluster);
            let done = tokio::time::timeout(global.timeout, gathered).await;
            let value = done.map_err(|_| Failure::unreachable(&what, "no answer in time"))?;
            let value = value.map_err(|error| Failure::wire(&what, &error))?;
            if global.json {
                output::json(&value);
            } else {
                show(&value, self.objects);
            }
            Ok(0)
        })
    }

    async fn gather(&self, config: ClientConfig, place: &Place, cluster: &Cluster) -> client::Result<Value> {
        let client = Client::connect(config).await?;
        let volume = client.volume(&place.volume).await?;
        let ino = match place.ino {
            Some(ino) if ino >= FIRST_OF_PAST => {
                let why = "it lies in a snapshot; this shows what files are now";
                return Err(client::Error::new(client::Code::InvalidArgument, why));
            }
            Some(ino) => ino,
            None => resolve(&volume, &place.path).await?,
        };
        let attr = volume.getattr(&creds(), ino).await?;
        let mut value = describe(&volume, &attr);
        if attr.mode >> 12 == kind::FILE {
            let layout = volume.layout(&creds(), ino).await?;
            describe_layout(&mut value, &layout);
            value["osds"] = self.objects(cluster, &volume, &layout).await?;
        }
        client.shutdown().await;
        Ok(value)
    }

    /// Objects per OSD, asked from the OSDs themselves.
    async fn objects(
        &self,
        cluster: &Cluster,
        volume: &Arc<Volume>,
        layout: &LayoutReply,
    ) -> client::Result<Value> {
        let mut head = head(volume.id());
        head.session = volume.session().id();
        let ino = layout.attr.ino;
        let opened = volume
            .session()
            .open(&OpenRequest {
                head: head.clone(),
                ino,
                write: false,
                renew: false,
                append: false,
                exact: false,
            })
            .await?;
        let map = cluster.call::<proto::dir::Map>(&cluster.dirs, &proto::dir::GetMap::default()).await?;
        let mut list = Vec::new();
        // Of what is at the MRC they have nothing: these are the ones that were chosen when the file was made.
        for osd in layout.layout.all_osds() {
            let entry = map.osds.iter().find(|entry| entry.osd == osd.0);
            let addr = entry.map(|entry| entry.addr.clone()).unwrap_or_default();
            let asked = objects_on(cluster, &addr, &opened.credentials.capability).await;
            let (objects, error) = match asked {
                Ok(objects) => (objects, None),
                Err(error) => (Vec::new(), Some(error.text)),
            };
            let mut value = json!({
                "osd": osd.0,
                "uuid": entry.map(|entry| entry.uuid.clone()),
                "addr": addr,
                "objects": objects.len(),
                "bytes": objects.iter().map(|object| u64::from(object.bytes)).sum::<u64>(),
                "allocated": objects.iter().map(|object| u64::from(object.allocated)).sum::<u64>(),
                "error": error,
            });
            if self.objects {
                value["list"] = objects.iter().map(object_json).collect();
            }
            list.push(value);
        }
        volume.session().close(&CloseRequest { head, ino, write: false }).await?;
        Ok(Value::Array(list))
    }
}

async fn objects_on(
    cluster: &Cluster,
    addr: &str,
    capability: &proto::capability::Capability,
) -> client::Result<Vec<ObjectStat>> {
    let mut all: Vec<ObjectStat> = Vec::new();
    loop {
        let from_object = all.last().map_or(0, |last| last.object + 1);
        let request = StatObjectsRequest {
            capability: capability.clone(),
            from_object,
            limit: PAGE,
            ..StatObjectsRequest::default()
        };
        let page = cluster.call_one::<StatObjects>(addr, &request, OSD_PATIENCE).await?;
        let (more, empty) = (page.more, page.objects.is_empty());
        all.extend(page.objects);
        if !more || empty {
            return Ok(all);
        }
    }
}

fn describe(volume: &Arc<Volume>, attr: &Attr) -> Value {
    let kind = match attr.mode >> 12 {
        kind::FILE => "file",
        kind::DIR => "directory",
        kind::SYMLINK => "symlink",
        kind::FIFO => "fifo",
        kind::SOCKET => "socket",
        kind::BLOCK => "block device",
        _ => "character device",
    };
    json!({
        "volume": volume.entry().name,
        "ino": attr.ino,
        "type": kind,
        "size": attr.size,
        "mode": format!("{:04o}", attr.mode & 0o7777),
        "uid": attr.uid,
        "gid": attr.gid,
        "links": attr.nlink,
        "open_handles": null,
        "open_writers": null,
        "truncate_epoch": attr.truncate_epoch,
        "change": attr.change,
        "layout": null,
        "osds": [],
    })
}

fn describe_layout(value: &mut Value, reply: &LayoutReply) {
    let layout = &reply.layout;
    let columns: Vec<&Vec<u64>> = layout.columns.iter().map(|column| &column.osds).collect();
    value["open_handles"] = reply.open_handles.into();
    value["open_writers"] = reply.open_writers.into();
    value["layout"] = json!({
        "stripe_size": layout.stripe_bytes,
        "stripe_width": columns.len(),
        "columns": columns,
        "replication": replication_name(layout.replication()),
        "ec": layout.coding.map(|coding| coding.to_string()),
        "view": layout.view,
        "inline": layout.is_inline(),
        "objects": if layout.is_inline() { 0 } else { layout.objects_of(reply.attr.size) },
    });
}

fn object_json(object: &ObjectStat) -> Value {
    let data: Vec<Value> =
        object.data.chunks_exact(2).map(|range| json!({"offset": range[0], "bytes": range[1]})).collect();
    json!({
        "object": object.object, "bytes": object.bytes, "version": object.version, "epoch": object.epoch,
        "allocated": object.allocated, "data": data,
    })
}

fn show(value: &Value, objects: bool) {
    let layout = &value["layout"];
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    output::line(&format!("volume    {}", text(&value["volume"])));
    output::line(&format!("inode     {} ({})", value["ino"], text(&value["type"])));
    output::line(&format!("size      {}", output::bytes(value["size"].as_u64().unwrap_or(0))));
    if value["type"] != "file" {
        return;
    }
    output::line(&format!("open      {} handles, {} writing", value["open_handles"], value["open_writers"]));
    if layout["inline"] == true {
        output::line(
            "layout    with its metadata, at the MRCs: no OSD has any of it until it is written again",
        );
        return;
    }
    output::line(&format!(
        "layout    stripes of {}, width {}, {}, view {}",
        output::bytes(layout["stripe_size"].as_u64().unwrap_or(0)),
        layout["stripe_width"],
        match layout["ec"].as_str() {
            Some(code) => format!("erasure-coded {code}"),
            None => format!("replication {}", text(&layout["replication"])),
        },
        layout["view"]
    ));
    let empty = Vec::new();
    let osds = value["osds"].as_array().unwrap_or(&empty);
    let rows: Vec<Vec<String>> = osds
        .iter()
        .map(|osd| {
            let bytes = output::bytes(osd["bytes"].as_u64().unwrap_or(0));
            let error = osd["error"].as_str().unwrap_or("").to_owned();
            vec![format!("osd#{}", osd["osd"]), osd["objects"].to_string(), bytes, text(&osd["addr"]), error]
        })
        .collect();
    output::table(&["OSD", "OBJECTS", "BYTES", "ADDR", ""], &rows, "no OSD holds anything of it yet");
    for osd in osds.iter().filter(|_| objects) {
        for object in osd["list"].as_array().unwrap_or(&empty) {
            output::line(&format!(
                "osd#{}  object {}  {} bytes, {} allocated, version {}, epoch {}",
                osd["osd"],
                object["object"],
                object["bytes"],
                object["allocated"],
                object["version"],
                object["epoch"]
            ));
        }
    }
}
