//! Making, moving, linking and removing files and directories before the MRC hears of it. See `docs/protocols/async-create.md`.

use std::sync::Arc;

use proto::error::{Code, WireError};
use proto::limits::LINKS_MAX;
use proto::mrc::{
    ACL_DEFAULT, Attr, CreateMany, CreateManyRequest, CreatedReply, EarlyFile, EarlyMove, KeptAttributes,
    LEASE_WRITE, RENAME_NOREPLACE, TAKES_DIRECTORIES, TAKES_LINKS, Time, kind,
};

use super::Volume;
use super::inode::Inode;
use super::names::Move;
use super::open::{CreateOptions, Created};
use crate::config::Creds;
use crate::creates::{self, Early, Numbered};
use crate::error::Result;
use crate::file::File;
use crate::stage::Stage;
use crate::stage::records::{Record, have_room};

/// Mode bits that take a decision of the MRC.
const SPECIAL: u32 = 0o7000;
/// Set-group-ID of a directory: files get its group.
const SETGID: u32 = 0o2000;

impl Volume {
    /// Like [`Volume::create_with`]; with a stage the file is made here, and told afterwards, when nobody else may look.
    pub(crate) async fn create_behind(
        &self,
        creds: &Creds,
        (parent, name): (u64, &[u8]),
        options: CreateOptions,
        append: bool,
        stage: Option<&Arc<Stage>>,
    ) -> Result<Created> {
        self.session().creates().not_too_many().await;
        if let Some(stage) = stage
            && let Some(made) = self.create_early(creds, (parent, name), options, stage)
        {
            return Ok(made);
        }
        self.create_with(creds, parent, name, options, append).await
    }

    /// `None`: the MRC has to make it.
    fn create_early(
        &self,
        creds: &Creds,
        (parent, name): (u64, &[u8]),
        options: CreateOptions,
        stage: &Arc<Stage>,
    ) -> Option<Created> {
        let plain = creds.may_use_kept() && super::names::is_plain(name) && options.mode & SPECIAL == 0;
        if !plain || self.is_past() || self.has_quota() || self.is_short() || !self.osds().all_have_room() {
            return None;
        }
        let (session, volume) = (self.session(), self.arc());
        let dir = self.key(parent);
        let (file, attr, made) = self.leasing().make_early(dir, name, |of_dir| {
            let file = self.file_of(creds, of_dir, name, options)?;
            let record = stage.take_record()?;
            let ino = session.creates().take_number(&volume)?;
            let numbered = session.number_now()?;
            let file = EarlyFile { ino, origin: numbered.origin, ..file };
            let record = self.recorded(record, &file, numbered)?;
            let attr = creates::attributes(&file);
            let early = Arc::new(Early::default());
            let inode = Inode::made(volume.clone(), attr.clone(), early.clone());
            self.inodes.lock().insert(ino, Arc::downgrade(&inode));
            session.open_untold(self.id(), ino, options.write);
            session.creates().add(&volume, file, (record, numbered), Some((&inode, early)));
            Some((attr.clone(), (inode, attr, options.write)))
        })?;
        let file = File::new(file, creds.clone(), made);
        Some(Created { file, attr: self.shown(attr), created: true })
    }

    /// Like [`Volume::mkdir`]; with a stage the directory is made here, and told afterwards, when nobody else may look.
    pub(crate) async fn mkdir_behind(
        &self,
        creds: &Creds,
        (parent, name): (u64, &[u8]),
        mode: u32,
        stage: Option<&Arc<Stage>>,
    ) -> Result<Attr> {
        self.session().creates().not_too_many().await;
        if let Some(stage) = stage
            && let Some(attr) = self.mkdir_early(creds, (parent, name), mode, stage)
        {
            return Ok(self.shown(attr));
        }
        self.mkdir(creds, parent, name, mode).await
    }

    /// `None`: the MRC has to make it.
    fn mkdir_early(
        &self,
        creds: &Creds,
        (parent, name): (u64, &[u8]),
        mode: u32,
        stage: &Arc<Stage>,
    ) -> Option<Attr> {
        let plain = creds.may_use_kept() && super::names::is_plain(name) && mode & SPECIAL == 0;
        if !plain || self.is_past() || self.has_quota() || self.is_short() {
            return None;
        }
        let creates = self.session().creates();
        if !creates.takes(TAKES_DIRECTORIES) {
            return None;
        }
        self.leasing().make_directory_early(self.key(parent), name, |of_dir| {
            let options = CreateOptions { mode, ..CreateOptions::default() };
            let file = self.file_of(creds, of_dir, name, options)?;
            // What it hands down is the MRC's to decide.
            if of_dir.mode & SETGID != 0 || of_dir.nlink >= LINKS_MAX {
                return None;
            }
            let file = EarlyFile { ino: creates.take_number(&self.arc())?, directory: true, ..file };
            let at = self.tell_later(stage, file.clone())?;
            Some(creates::attributes(&EarlyFile { at, ..file }))
        })
    }

    /// Attributes of a directory that nobody else may look at; `None`: they are the MRC's to change. `set` gives what changes.
    pub(super) fn set_directory_early(
        &self,
        creds: &Creds,
        ino: u64,
        stage: &Arc<Stage>,
        set: impl FnOnce(&Attr, Time, u64) -> Option<KeptAttributes>,
    ) -> Option<Attr> {
        let may = creds.may_use_kept() && !self.is_past();
        if !may || !self.session().creates().takes(TAKES_DIRECTORIES) {
            return None;
        }
        self.leasing().set_early(self.key(ino), |attr| {
            // An access control list is the MRC's to change.
            if attr.acl != 0 {
                return None;
            }
            let kept = set(attr, self.now(), self.session().epoch())?;
            let file = EarlyFile { kept: Some(kept), ..of_name((ino, b""), ino, creds) };
            self.tell_later(stage, file).map(|_| kept)
        })
    }

    /// Like [`Volume::unlink`]; with a stage the name is taken away here, and the MRC hears of it afterwards, when nobody else may look.
    pub(crate) async fn unlink_behind(
        &self,
        creds: &Creds,
        (parent, name): (u64, &[u8]),
        stage: Option<&Arc<Stage>>,
    ) -> Result<()> {
        if let Some(stage) = stage {
            self.session().creates().not_too_many().await;
            let mut done = self.unlink_early(creds, (parent, name), stage);
            if done.is_none() && self.hold_ahead(creds, (parent, name), None).await {
                done = self.unlink_early(creds, (parent, name), stage);
            }
            if done.is_some() {
                self.changed_unheard(parent);
                return Ok(());
            }
        }
        self.unlink(creds, parent, name).await
    }

    /// `None`: the MRC has to remove it.
    fn unlink_early(&self, creds: &Creds, (parent, name): (u64, &[u8]), stage: &Arc<Stage>) -> Option<()> {
        if !creds.may_use_kept() || !super::names::is_plain(name) || self.is_past() {
            return None;
        }
        self.leasing().remove_early(self.key(parent), name, |of_dir, of_file| {
            let is_last = of_file.nlink == 1;
            if is_last && self.is_open_to_programs(of_file.ino) || !may_change(of_dir) {
                return None;
            }
            self.tell_later(stage, EarlyFile { removed: true, ..of_name((parent, name), of_file.ino, creds) })
        })
    }

    /// Like [`Volume::link`]; with a stage the name is given here, and the MRC hears of it afterwards, when nobody else may look.
    pub(crate) async fn link_behind(
        &self,
        creds: &Creds,
        ino: u64,
        (parent, name): (u64, &[u8]),
        stage: Option<&Arc<Stage>>,
    ) -> Result<Attr> {
        self.session().creates().not_too_many().await;
        if let Some(stage) = stage
            && let Some(attr) = self.link_early(creds, ino, (parent, name), stage)
        {
            return Ok(self.shown(attr));
        }
        self.link(creds, ino, parent, name).await
    }

    /// `None`: the MRC has to give it.
    fn link_early(
        &self,
        creds: &Creds,
        ino: u64,
        (parent, name): (u64, &[u8]),
        stage: &Arc<Stage>,
    ) -> Option<Attr> {
        let plain = creds.may_use_kept() && super::names::is_plain(name);
        if !plain || self.is_past() || self.is_short() || !self.session().creates().takes(TAKES_LINKS) {
            return None;
        }
        self.leasing().link_early((self.key(parent), name), ino, |of_dir, _| {
            if !may_change(of_dir) {
                return None;
            }
            let named = EarlyFile { linked: true, ..of_name((parent, name), ino, creds) };
            self.tell_later(stage, named)
        })
    }

    /// Like [`Volume::rmdir`]; with a stage the directory is taken away here, and the MRC hears of it afterwards, when nobody else may look.
    pub(crate) async fn rmdir_behind(
        &self,
        creds: &Creds,
        (parent, name): (u64, &[u8]),
        stage: Option<&Arc<Stage>>,
    ) -> Result<()> {
        if let Some(stage) = stage {
            self.session().creates().not_too_many().await;
            let mut done = self.rmdir_early(creds, (parent, name), stage);
            if done.is_none() && self.hold_directories(creds, parent, name).await {
                done = self.rmdir_early(creds, (parent, name), stage);
            }
            if done.is_some() {
                return Ok(());
            }
        }
        self.rmdir(creds, parent, name).await
    }

    /// `None`: the MRC has to remove it.
    fn rmdir_early(&self, creds: &Creds, (parent, name): (u64, &[u8]), stage: &Arc<Stage>) -> Option<()> {
        if !creds.may_use_kept() || !super::names::is_plain(name) || self.is_past() {
            return None;
        }
        self.leasing().remove_directory_early(self.key(parent), name, |of_dir, removed| {
            if !may_change(of_dir) {
                return None;
            }
            self.tell_later(stage, EarlyFile { removed: true, ..of_name((parent, name), removed.ino, creds) })
        })
    }

    /// Like [`Volume::rename`]; with a stage the file is moved here, and the MRC hears of it afterwards, when nobody else may look.
    pub(crate) async fn rename_behind(
        &self,
        creds: &Creds,
        what: Move<'_>,
        stage: Option<&Arc<Stage>>,
    ) -> Result<()> {
        if let Some(stage) = stage {
            self.session().creates().not_too_many().await;
            let (from, to) = ((what.parent, what.name), (what.new_parent, what.new_name));
            let mut done = self.rename_early(creds, what, stage);
            if done.is_none() && self.hold_ahead(creds, from, Some(to)).await {
                done = self.rename_early(creds, what, stage);
            }
            if done.is_some() {
                self.changed_unheard(what.parent);
                return Ok(());
            }
        }
        self.rename(creds, what).await
    }

    /// `None`: the MRC has to move it.
    fn rename_early(&self, creds: &Creds, what: Move<'_>, stage: &Arc<Stage>) -> Option<()> {
        let Move { parent, name, new_parent, new_name, flags, only_if_no_writer } = what;
        let plain =
            super::names::is_plain(name) && super::names::is_plain(new_name) && have_room(name, new_name);
        let plain = plain && flags & !RENAME_NOREPLACE == 0 && !only_if_no_writer;
        if !creds.may_use_kept() || !plain || self.is_past() {
            return None;
        }
        let (from, to) = ((self.key(parent), name), (self.key(new_parent), new_name));
        self.leasing().move_early(from, to, |moving| {
            let replaced = moving.replaced.as_ref().map(|attr| attr.ino);
            let kept = replaced.is_some_and(|ino| flags != 0 || self.is_open_to_programs(ino));
            if kept || !may_change(&moving.from_dir) || !may_change(&moving.to_dir) {
                return None;
            }
            let (new_name, replaced) = (new_name.to_vec(), replaced.unwrap_or(0));
            let moved = EarlyMove { parent: new_parent, name: new_name, replaced };
            let of_name = of_name((parent, name), moving.file.ino, creds);
            let file = EarlyFile { gid: 0, moved: Some(moved), ..of_name };
            self.tell_later(stage, file)
        })
    }

    /// What a program has open lives on without a name. Nobody opens here without asking what lost its name.
    pub(crate) fn is_open_to_programs(&self, ino: u64) -> bool {
        let leaving = self.inode(ino).map_or(0, |inode| inode.leaving());
        self.session().handles(self.key(ino)) > leaving
    }

    /// Records what is done with a file now; gives when that is.
    fn tell_later(&self, stage: &Arc<Stage>, file: EarlyFile) -> Option<Time> {
        let session = self.session();
        let record = stage.take_record()?;
        let numbered = session.number_now()?;
        let (at, epoch) = (self.now(), session.epoch());
        let file = EarlyFile { origin: numbered.origin, at, epoch, ..file };
        let record = self.recorded(record, &file, numbered)?;
        session.creates().add(&self.arc(), file, (record, numbered), None);
        Some(at)
    }

    /// `None`: it cannot be recorded, so the MRC is asked.
    fn recorded(&self, mut record: Record, file: &EarlyFile, numbered: Numbered) -> Option<Record> {
        let Err(error) = record.write(self.session().id(), self.id(), file) else { return Some(record) };
        tracing::warn!(%error, "what is done with a file cannot be recorded; the MRC is asked for it");
        self.session().number_is_over(numbered);
        record.cross_out();
        None
    }

    /// Tells of a file that an earlier process of this session made, moved or removed.
    pub(crate) async fn tell_file(&self, file: EarlyFile) -> Result<()> {
        let request =
            CreateManyRequest { head: self.head(&Creds::checked(0, 0)), files: vec![file], reserve: 0 };
        let reply = self.session().call::<CreateMany>(&request).await?;
        match reply.files.into_iter().next() {
            Some(CreatedReply { refused: Some(refused), .. }) => Err(refused.into()),
            Some(_) => {
                let leasing = self.leasing();
                for grant in &reply.leases {
                    leasing.assume([self.key(grant.ino)].into_iter(), LEASE_WRITE);
                    leasing.opened(grant.number);
                }
                Ok(())
            }
            None => {
                Err(WireError::new(Code::Internal, "the MRC did not answer for the file that it was told of"))
            }
        }
    }

    /// The file as the MRC would make it; `None`: it has to.
    fn file_of(
        &self,
        creds: &Creds,
        of_dir: &Attr,
        name: &[u8],
        options: CreateOptions,
    ) -> Option<EarlyFile> {
        let plain = of_dir.mode >> 12 == kind::DIR
            && of_dir.nlink > 0
            && of_dir.flags == 0
            && of_dir.acl & ACL_DEFAULT == 0;
        plain.then(|| EarlyFile {
            parent: of_dir.ino,
            name: name.to_vec(),
            mode: options.mode & 0o777 & !creds.umask,
            uid: creds.uid,
            gid: if of_dir.mode & SETGID == 0 { creds.gid } else { of_dir.gid },
            at: self.now(),
            epoch: self.session().epoch(),
            ..EarlyFile::default()
        })
    }
}

/// What is done about a name of an inode.
fn of_name((parent, name): (u64, &[u8]), ino: u64, creds: &Creds) -> EarlyFile {
    let (name, uid, gid) = (name.to_vec(), creds.uid, creds.gid);
    EarlyFile { parent, name, ino, uid, gid, ..EarlyFile::default() }
}

/// Whether names of a directory may be changed, for all that its flags say.
fn may_change(directory: &Attr) -> bool {
    directory.nlink > 0 && directory.flags == 0
}
