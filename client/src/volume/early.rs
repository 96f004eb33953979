//! Making and removing a file before the MRC hears of it. See `docs/protocols/async-create.md`.

use std::sync::Arc;

use proto::error::{Code, WireError};
use proto::mrc::{ACL_DEFAULT, Attr, CreateMany, CreateManyRequest, CreatedReply, EarlyFile, kind};

use super::Volume;
use super::inode::Inode;
use super::open::{CreateOptions, Created};
use crate::config::Creds;
use crate::creates::{self, Early};
use crate::error::Result;
use crate::file::File;
use crate::stage::Stage;

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
            let mut record = stage.take_record()?;
            let ino = session.creates().take_number(&volume)?;
            let numbered = session.number_now()?;
            let file = EarlyFile { ino, origin: numbered.origin, ..file };
            if let Err(error) = record.write(session.id(), self.id(), &file) {
                tracing::warn!(%error, "a file that is made cannot be recorded; the MRC makes it");
                session.number_is_over(numbered);
                record.cross_out();
                return None;
            }
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

    /// Like [`Volume::unlink`]; with a stage the name is taken away here, and the MRC hears of it afterwards, when nobody else may look.
    pub(crate) async fn unlink_behind(
        &self,
        creds: &Creds,
        (parent, name): (u64, &[u8]),
        stage: Option<&Arc<Stage>>,
    ) -> Result<()> {
        match stage.and_then(|stage| self.unlink_early(creds, (parent, name), stage)) {
            Some(()) => Ok(()),
            None => self.unlink(creds, parent, name).await,
        }
    }

    /// `None`: the MRC has to remove it.
    fn unlink_early(&self, creds: &Creds, (parent, name): (u64, &[u8]), stage: &Arc<Stage>) -> Option<()> {
        if !creds.may_use_kept() || !super::names::is_plain(name) || self.is_past() {
            return None;
        }
        let (session, volume) = (self.session(), self.arc());
        self.leasing().remove_early(self.key(parent), name, |of_dir, of_file| {
            let ino = of_file.ino;
            // What a program has open lives on. Nobody opens it from here on without asking.
            let leaving = self.inode(ino).map_or(0, |inode| inode.leaving());
            if session.handles(self.key(ino)) > leaving || of_dir.nlink == 0 || of_dir.flags != 0 {
                return None;
            }
            let mut record = stage.take_record()?;
            let numbered = session.number_now()?;
            let file = EarlyFile {
                origin: numbered.origin,
                parent,
                name: name.to_vec(),
                ino,
                at: self.now(),
                epoch: session.epoch(),
                removed: true,
                ..EarlyFile::default()
            };
            if let Err(error) = record.write(session.id(), self.id(), &file) {
                tracing::warn!(%error, "a removal cannot be recorded; the MRC is asked for it");
                session.number_is_over(numbered);
                record.cross_out();
                return None;
            }
            let at = file.at;
            session.creates().add(&volume, file, (record, numbered), None);
            Some(at)
        })
    }

    /// Tells of a file that an earlier process of this session made or removed.
    pub(crate) async fn tell_file(&self, file: EarlyFile) -> Result<()> {
        let request =
            CreateManyRequest { head: self.head(&Creds::checked(0, 0)), files: vec![file], reserve: 0 };
        let reply = self.session().call::<CreateMany>(&request).await?;
        match reply.files.into_iter().next() {
            Some(CreatedReply { refused: Some(refused), .. }) => Err(refused.into()),
            Some(_) => {
                let leasing = self.leasing();
                for grant in &reply.leases {
                    leasing.assume([self.key(grant.ino)].into_iter());
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
