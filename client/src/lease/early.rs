//! Names that are made before the MRC hears of them; see [`crate::engine::leases`] and `docs/protocols/async-create.md`.

use std::sync::Arc;

use proto::mrc::{Attr, EarlyFile, KeptAttributes, LeaseGrant, Recall, Time, kind};

use super::recalls::{ATTEMPTS, PAUSE};
use super::{Asked, Leasing};
use crate::creates::Waiting;
use crate::engine::leases::{Key, Moving, Ticket};
use crate::volume::Volume;

impl Leasing {
    /// What was made and not told.
    pub(crate) fn creates(&self) -> &Arc<Waiting> {
        &self.creates
    }

    /// Makes a file in a directory if that may be done without asking: `make` gets the directory's attributes, and gives those of the
    /// file once it is recorded. Nobody sees the name before.
    pub(crate) fn make_early<T>(
        &self,
        dir: Key,
        name: &[u8],
        make: impl FnOnce(&Attr) -> Option<(Attr, T)>,
    ) -> Option<T> {
        let now = self.now();
        let mut engine = self.engine.lock();
        let of_dir = engine.may_make(dir, name, now)?;
        let (attr, made) = make(&of_dir)?;
        engine.made(dir, name, &attr);
        Some(made)
    }

    /// Makes a directory likewise.
    pub(crate) fn make_directory_early(
        &self,
        dir: Key,
        name: &[u8],
        make: impl FnOnce(&Attr) -> Option<Attr>,
    ) -> Option<Attr> {
        let now = self.now();
        let mut engine = self.engine.lock();
        let of_dir = engine.may_make(dir, name, now)?;
        let attr = make(&of_dir)?;
        engine.made_directory(dir, name, &attr);
        Some(attr)
    }

    /// Sets attributes of a directory if that may be done without asking: `record` gets those that it has, and gives what is set once that is
    /// recorded. Gives the attributes then.
    pub(crate) fn set_early(
        &self,
        dir: Key,
        record: impl FnOnce(&Attr) -> Option<KeptAttributes>,
    ) -> Option<Attr> {
        let now = self.now();
        let mut engine = self.engine.lock();
        let kept = record(&engine.may_set(dir, now)?)?;
        engine.set(dir, &kept)
    }

    /// The MRC has heard of it, and a new name has a place in its directory; see [`crate::engine::leases::Leases::placed`].
    pub(crate) fn told_name(&self, volume: &Volume, file: &EarlyFile, cookie: u64) {
        let mut engine = self.engine.lock();
        if !file.is_made() {
            engine.told_name(volume.key(file.ino));
        }
        if let Some((dir, name)) = file.new_name() {
            let kind = if file.directory { kind::DIR } else { kind::FILE };
            engine.placed(volume.key(dir), name, (file.ino, kind), cookie);
        }
    }

    /// See [`crate::engine::leases::Leases::show_names`].
    pub(crate) fn show_names(&self, key: Key, attr: &mut Attr) {
        self.engine.lock().show_names(key, attr);
    }

    /// See [`crate::engine::leases::Leases::is_untold`].
    pub(crate) fn is_untold(&self, key: Key) -> bool {
        self.engine.lock().is_untold(key)
    }

    /// See [`crate::engine::leases::Leases::alone_since`].
    pub(crate) fn alone_since(&self, dir: Key) -> Option<Ticket> {
        let now = self.now();
        self.engine.lock().alone_since(dir, now)
    }

    /// See [`crate::engine::leases::Leases::awaits_order`].
    pub(crate) fn awaits_order(&self, dir: Key) -> bool {
        self.engine.lock().awaits_order(dir)
    }

    /// See [`crate::engine::leases::Leases::siblings`].
    pub(crate) fn siblings(&self, dir: Key, first: u64, most: usize) -> Vec<u64> {
        self.engine.lock().siblings(dir, first, most)
    }

    /// See [`crate::engine::leases::Leases::next_in_tree`].
    pub(crate) fn next_in_tree(&self, dir: Key, dirs: usize, files: usize) -> (Vec<u64>, Vec<u64>) {
        self.engine.lock().next_in_tree(dir, dirs, files)
    }

    /// Gives a file a further name if that may be done without asking: `record` gets the attributes of the directory and of the file, and gives
    /// when it was once that is recorded. Gives the file's attributes then.
    pub(crate) fn link_early(
        &self,
        (dir, name): (Key, &[u8]),
        ino: u64,
        record: impl FnOnce(&Attr, &Attr) -> Option<Time>,
    ) -> Option<Attr> {
        let now = self.now();
        let mut engine = self.engine.lock();
        let (of_dir, of_file) = engine.may_link(dir, name, ino, now)?;
        let at = record(&of_dir, &of_file)?;
        engine.linked(dir, name, ino, at)
    }

    /// Removes a file if that may be done without asking: `remove` gets the attributes of the directory and of the file, and gives when
    /// it was once that is recorded.
    pub(crate) fn remove_early(
        &self,
        dir: Key,
        name: &[u8],
        remove: impl FnOnce(&Attr, &Attr) -> Option<Time>,
    ) -> Option<()> {
        let now = self.now();
        let mut engine = self.engine.lock();
        let (of_dir, of_file) = engine.may_remove(dir, name, now)?;
        let at = remove(&of_dir, &of_file)?;
        engine.removed(dir, name, of_file.ino, at);
        Some(())
    }

    /// Removes a directory likewise.
    pub(crate) fn remove_directory_early(
        &self,
        dir: Key,
        name: &[u8],
        remove: impl FnOnce(&Attr, &Attr) -> Option<Time>,
    ) -> Option<()> {
        let now = self.now();
        let mut engine = self.engine.lock();
        let (of_dir, removed) = engine.may_remove_directory(dir, name, now)?;
        let at = remove(&of_dir, &removed)?;
        engine.removed_directory(dir, name, removed.ino, at);
        Some(())
    }

    /// Moves a file likewise.
    pub(crate) fn move_early(
        &self,
        from: (Key, &[u8]),
        to: (Key, &[u8]),
        record: impl FnOnce(&Moving) -> Option<Time>,
    ) -> Option<()> {
        let now = self.now();
        let mut engine = self.engine.lock();
        let moving = engine.may_move(from, to, now)?;
        let at = record(&moving)?;
        engine.moved(from, to, &moving, at);
        Some(())
    }

    /// See [`crate::engine::leases::Leases::forget_early`].
    pub(crate) fn forget_early(&self, volume: &Volume, file: &EarlyFile) {
        let to = file.moved.as_ref();
        {
            let mut engine = self.engine.lock();
            engine.told_name(volume.key(file.ino));
            engine.forget_early(volume.key(file.ino), volume.key(file.parent), &file.name);
            if let Some(to) = to {
                engine.forget_early(volume.key(to.replaced), volume.key(to.parent), &to.name);
            }
        }
        volume.kernel().forget_names();
        for ino in std::iter::once(file.ino).chain(file.known()) {
            volume.kernel().forget_attr(ino);
        }
    }

    /// Whether names are made in the inode.
    pub(super) fn is_directory(&self, recall: &Recall) -> bool {
        self.engine.lock().is_directory((recall.volume, recall.ino))
    }

    /// Writes out what was gathered under a right that did not come with the answer.
    pub(crate) async fn surrender(&self, volume: &Arc<Volume>, what: &Recall) {
        volume.kernel().forget_attr(what.ino);
        for _ in 0..ATTEMPTS {
            match self.give_up_data(volume, what).await {
                Ok(()) => return,
                Err(why) => {
                    tracing::warn!(ino = what.ino, why, "a file that was made cannot be written out yet")
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Asked<'_> {
    /// Whether grants of its answer count: no leader was told meanwhile what is held. Without leases there are none to count.
    pub(crate) fn counts(&self) -> bool {
        let engine = self.leasing.engine.lock();
        !engine.is_on() || engine.is_counted(self.ticket)
    }

    /// The answer for a file that was made early; see [`crate::engine::leases::Leases::confirm`].
    pub(crate) fn confirm(&self, volume: u64, attr: &Attr, grants: &[LeaseGrant]) -> u32 {
        let mut engine = self.leasing.engine.lock();
        let missing = engine.confirm(volume, attr, grants, self.ticket);
        self.leasing.after_grants(true, &engine);
        missing
    }
}
