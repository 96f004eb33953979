//! Extended attributes: those of the MRC, and `xtreemfs.*`, which show what the original showed.

use proto::mrc::kind;
use proto::stripe::Replication;

use super::door::Shared;
use super::inside;
use crate::config::Creds;
use crate::error::{Code, Error, Result};

/// Names that can be read of every inode; they are not listed, so that copies do not carry them along.
const PREFIX: &[u8] = b"xtreemfs.";

/// What cp(1) sets of every copy, mostly to no more than the mode says.
const ACCESS_LIST: &[u8] = b"system.posix_acl_access";
/// What files that are made in a directory get.
const DEFAULT_LIST: &[u8] = b"system.posix_acl_default";

/// Why there is no such attribute.
fn absent(name: &[u8]) -> Error {
    Error::new(Code::NoAttribute, format!("no attribute {}", String::from_utf8_lossy(name)))
}

impl Shared {
    pub(super) async fn getxattr(&self, creds: Creds, ino: u64, name: Vec<u8>) -> Result<Vec<u8>> {
        if inside::is_inside(ino) {
            return Err(absent(&name));
        }
        match name.strip_prefix(PREFIX) {
            Some(what) => self.virtual_xattr(&creds, ino, what, &name).await,
            None => self.volume.getxattr(&creds, ino, &name).await,
        }
    }

    /// All names, each ended by NUL, as listxattr(2) gives them.
    pub(super) async fn listxattr(&self, creds: Creds, ino: u64) -> Result<Vec<u8>> {
        if inside::is_inside(ino) {
            return Ok(Vec::new());
        }
        let names = self.volume.listxattr(&creds, ino).await?;
        Ok(names
            .into_iter()
            .flat_map(|mut name| {
                name.push(0);
                name
            })
            .collect())
    }

    pub(super) async fn setxattr(
        &self,
        creds: Creds,
        ino: u64,
        name: Vec<u8>,
        value: Option<Vec<u8>>,
        (flags, clear_setgid): (u32, bool),
    ) -> Result<()> {
        if name.starts_with(PREFIX) {
            let name = String::from_utf8_lossy(&name).into_owned();
            return Err(Error::new(
                Code::NotPermitted,
                format!("{name} shows a property and is not set through attributes; see `xtfs layout`"),
            ));
        }
        if name == ACCESS_LIST
            && flags == 0
            && let Some(value) = &value
            && self.volume.set_acl_behind(&creds, ino, value, self.stage.as_ref()).await
        {
            return Ok(());
        }
        // cp(1) does this to each directory that it makes. What is not there need not be removed.
        let bare = || creds.may_use_kept() && self.volume.is_bare(ino);
        if name == DEFAULT_LIST && value.is_none() && bare() {
            return Ok(());
        }
        self.volume.setxattr_with(&creds, ino, &name, value.as_deref(), flags, clear_setgid).await
    }

    async fn virtual_xattr(&self, creds: &Creds, ino: u64, what: &[u8], name: &[u8]) -> Result<Vec<u8>> {
        let entry = self.volume.entry();
        let text = match what {
            b"volume_id" => entry.volume.to_string(),
            b"volume_name" => entry.name.clone(),
            b"file_id" => format!("{}:{ino}", entry.volume),
            b"url" => {
                let dir = self.volume.client().dir().addrs().join(",");
                format!("xtfs://{}/{}", dir.replace("tcp://", "").replace("tls://", ""), entry.name)
            }
            b"object_type" => {
                let attr = self.volume.getattr(creds, ino).await?;
                match attr.mode >> 12 {
                    kind::DIR => "2".to_owned(),
                    kind::SYMLINK => "3".to_owned(),
                    _ => "1".to_owned(),
                }
            }
            b"owner" => self.volume.getattr(creds, ino).await?.uid.to_string(),
            b"group" => self.volume.getattr(creds, ino).await?.gid.to_string(),
            b"default_sp" => {
                let striping = &entry.striping;
                format!(
                    "{{\"pattern\":\"STRIPING_POLICY_RAID0\",\"size\":{},\"width\":{}}}",
                    striping.stripe_bytes / 1024,
                    striping.width
                )
            }
            b"locations" => self.locations(creds, ino).await?,
            _ => return Err(absent(name)),
        };
        Ok(text.into_bytes())
    }

    async fn locations(&self, creds: &Creds, ino: u64) -> Result<String> {
        let reply = self.volume.layout(creds, ino).await?;
        let (layout, map) = (reply.layout, self.volume.client().osds().map());
        let column = |osds: &[u64]| -> serde_json::Value {
            osds.iter()
                .map(|osd| {
                    let addr = map.osds.get(osd).map_or("", |(addr, _)| addr.as_str());
                    serde_json::json!({ "osd": osd, "address": addr })
                })
                .collect()
        };
        let policy = match Replication::try_from(layout.replication) {
            Ok(Replication::Quorum) => "WqRq",
            Ok(Replication::All) => "WaR1",
            Ok(Replication::None) | Err(_) => "",
        };
        let columns: Vec<_> = layout.columns.iter().map(|list| column(&list.osds)).collect();
        let document = serde_json::json!({
            "update-policy": policy,
            "version": layout.view,
            "striping-policy": {
                "pattern": "STRIPING_POLICY_RAID0",
                "size": layout.stripe_bytes / 1024,
                "width": layout.columns.len(),
            },
            "columns": columns,
        });
        Ok(document.to_string())
    }
}
