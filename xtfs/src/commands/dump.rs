//! `xtfs dump` and `xtfs load`: a volume's metadata as a file, and back.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, IsTerminal, Seek, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use client::Error;
use proto::backup::{DumpPage, LoadPage, PAGE_BYTES, PAGE_RECORDS};
use proto::error::Code;
use serde_json::json;

use crate::args::Global;
use crate::dump::lines::QuotaLine;
use crate::dump::read::{Content, Record, Tree, read};
use crate::dump::write::Writer;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::place::{Opened, creds, place, run_with_tasks};

/// Starts anew when the leader changes, this often.
const STARTS_MAX: usize = 5;

/// Write the metadata of a volume, as it is at one moment, to a file (JSON lines)
#[derive(Debug, Args)]
pub(crate) struct Dump {
    /// A mounted volume, or xtfs://HOST/VOLUME.
    url: String,
    /// The file, which must not exist; without it standard output.
    file: Option<PathBuf>,
}

/// Put a dump of metadata into an empty volume
#[derive(Debug, Args)]
pub(crate) struct Load {
    /// xtfs://HOST/VOLUME, as `xtfs mkfs` made it.
    url: String,
    /// The file; without it standard input.
    file: Option<PathBuf>,
    /// Into another volume than that of the dump: files come back empty.
    #[arg(long)]
    without_data: bool,
    /// Read and check the dump, and load nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Dump {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let what = format!("dumping {}", self.url);
        let place = place(&self.url)?;
        if self.file.is_none() && io::stdout().is_terminal() {
            return Err(
                Failure::usage(what, "a dump is no text for a terminal").next("name a file, or use a pipe")
            );
        }
        run_with_tasks(async {
            let opened = place.open(global, &what).await?;
            let done = self.write(&opened, &what).await;
            opened.close().await;
            let lines = done?;
            if self.file.is_some() {
                match global.json {
                    true => output::json(&json!({"nodes": lines.0, "names": lines.1})),
                    false => output::line(&format!("dumped {} nodes with {} names", lines.0, lines.1)),
                }
            }
            Ok(0)
        })
    }

    async fn write(&self, opened: &Opened, what: &str) -> Result<(u64, u64), Failure> {
        let failed = |error: io::Error| Failure::new(what, error);
        let Some(path) = &self.file else {
            return pages(opened, what, BufWriter::new(io::stdout().lock())).await.map(|(counts, _)| counts);
        };
        if path.exists() {
            return Err(Failure::new(what, format!("{} exists", path.display())).next("choose another name"));
        }
        // Under its name only when it is whole.
        let partial = partial_name(path);
        let file = File::create_new(&partial)
            .map_err(|error| Failure::new(what, format!("{}: {error}", partial.display())))?;
        let written = pages(opened, what, BufWriter::new(file)).await.and_then(|(counts, out)| {
            let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
            file.sync_all().map_err(failed)?;
            std::fs::rename(&partial, path).map_err(failed)?;
            Ok(counts)
        });
        if written.is_err() {
            // The cause is told; a left-over is only in the way.
            let _ = std::fs::remove_file(&partial);
        }
        written
    }
}

fn partial_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// The first page of a dump. A dump whose leader went away before is started anew; later that cannot be hidden.
async fn first(opened: &Opened) -> Result<DumpPage, Error> {
    let mut last = None;
    for _ in 0..STARTS_MAX {
        match opened.volume.dump_page(&creds(), 0, 0).await {
            Err(error) if error.code == Code::Stale => last = Some(error),
            other => return other,
        }
    }
    Err(last.expect("the loop ran"))
}

async fn pages<W: Write>(opened: &Opened, what: &str, out: W) -> Result<((u64, u64), W), Failure> {
    let wire = |error: &Error| Failure::wire(what, error);
    let io = |error: io::Error| Failure::new(what, error);
    let mut page = first(opened).await.map_err(|error| wire(&error))?;
    let header = page.header.take().ok_or_else(|| Failure::new(what, "the MRC sent no header"))?;
    let mut writer = Writer::begin(out, &header, jiff::Timestamp::now().to_string()).map_err(io)?;
    let (mut nodes, mut names, mut number) = (0, 0, 0);
    loop {
        for node in &page.nodes {
            writer.node(node).map_err(io)?;
            nodes += 1;
        }
        for name in &page.names {
            writer.name(name).map_err(io)?;
            names += 1;
        }
        if page.end {
            break;
        }
        number += 1;
        page = opened.volume.dump_page(&creds(), page.dump, number).await.map_err(|error| wire(&error))?;
    }
    let quotas = opened.volume.quotas(&creds(), 0).await.map_err(|error| wire(&error))?;
    for quota in &quotas {
        writer.quota(quota).map_err(io)?;
    }
    Ok(((nodes, names), writer.end().map_err(io)?))
}

impl Load {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let what = format!("loading {}", self.url);
        let mut file = self.open(&what)?;
        let content = checked(&mut file, &what)?;
        file.rewind().map_err(|error| Failure::new(&*what, error))?;
        if self.dry_run {
            tell(&content, "the dump is whole", global.json);
            return Ok(0);
        }
        let place = place(&self.url)?;
        run_with_tasks(async {
            let opened = place.open(global, &what).await?;
            let done = self.load(&opened, &what, file, &content).await;
            let done = match done {
                Ok(()) => super::fsck::must_be_clean(&opened, &what, global.timeout).await,
                failed => failed,
            };
            opened.close().await;
            done?;
            tell(&content, "loaded", global.json);
            Ok(0)
        })
    }

    /// The dump as a file that can be read twice.
    fn open(&self, what: &str) -> Result<BufReader<File>, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::new(what, error);
        if let Some(path) = &self.file {
            let file = File::open(path).map_err(|error| failed(&format!("{}: {error}", path.display())))?;
            return Ok(BufReader::new(file));
        }
        let mut file = nameless().map_err(|error| failed(&format!("a temporary file: {error}")))?;
        io::copy(&mut io::stdin().lock(), &mut file).map_err(|error| failed(&error))?;
        file.rewind().map_err(|error| failed(&error))?;
        Ok(BufReader::new(file))
    }

    async fn load(
        &self,
        opened: &Opened,
        what: &str,
        mut file: BufReader<File>,
        content: &Content,
    ) -> Result<(), Failure> {
        if content.header.volume != opened.volume.id() && !self.without_data {
            let why = format!(
                "the dump is of volume {:?} with number {}, this one has number {}: the data of its files would not be found",
                content.header.name,
                content.header.volume,
                opened.volume.id()
            );
            return Err(Failure::new(what, why)
                .next("load into the same volume, or add --without-data for empty files"));
        }
        let mut pages = Pages { ready: Vec::new(), page: LoadPage::default(), bytes: 0, quotas: Vec::new() };
        pages.page.begin = Some(content.header.clone());
        read(&mut file, &mut |record| {
            pages.add(record);
            Ok(())
        })
        .map_err(|why| Failure::new(what, why))?;
        pages.finish(true);
        for page in pages.ready {
            let page = LoadPage { without_data: self.without_data, ..page };
            opened.volume.load_page(&creds(), page).await.map_err(|error| Failure::wire(what, &error))?;
        }
        for quota in pages.quotas {
            let set = opened.volume.set_quota(&creds(), quota.kind(), quota.id, Some(quota.limits())).await;
            set.map_err(|error| Failure::wire(what, &error))?;
        }
        Ok(())
    }
}

/// A file without a name.
fn nameless() -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().read(true).write(true).custom_flags(libc::O_TMPFILE).open(std::env::temp_dir())
}

/// Reads the whole dump and checks everything that can be checked without a cluster.
fn checked(file: &mut BufReader<File>, what: &str) -> Result<Content, Failure> {
    let mut tree = Tree::default();
    let content = read(file, &mut |record| tree.add(&record)).and_then(|content| {
        tree.check()?;
        Ok(content)
    });
    content.map_err(|why| {
        Failure::new(what, format!("the dump is damaged: {why}")).next("use another copy; nothing was loaded")
    })
}

/// Records on their way into pages.
struct Pages {
    ready: Vec<LoadPage>,
    page: LoadPage,
    bytes: usize,
    quotas: Vec<QuotaLine>,
}

impl Pages {
    fn add(&mut self, record: Record) {
        match record {
            Record::Node(node) => {
                let xattrs: usize =
                    node.xattrs.iter().map(|xattr| xattr.name.len() + xattr.value.len()).sum();
                self.bytes += 256 + node.target.len() + node.acl.len() + node.default_acl.len() + xattrs;
                self.page.nodes.push(*node);
            }
            Record::Name(name) => {
                self.bytes += 32 + name.name.len();
                self.page.names.push(name);
            }
            Record::Quota(quota) => self.quotas.push(quota),
        }
        if self.bytes > PAGE_BYTES || self.page.nodes.len() + self.page.names.len() >= PAGE_RECORDS {
            self.finish(false);
        }
    }

    fn finish(&mut self, end: bool) {
        self.bytes = 0;
        let page = std::mem::take(&mut self.page);
        self.ready.push(LoadPage { end, ..page });
    }
}

fn tell(content: &Content, verb: &str, json: bool) {
    if json {
        return output::json(&json!({
            "volume": content.header.name,
            "created": content.created,
            "nodes": content.nodes,
            "names": content.names,
            "quotas": content.quotas,
        }));
    }
    output::line(&format!(
        "{verb}: {} nodes with {} names and {} quotas, volume {:?} of {}",
        content.nodes, content.names, content.quotas, content.header.name, content.created
    ));
}
