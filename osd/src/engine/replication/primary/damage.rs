//! Objects whose bytes got lost here while this OSD leads their column.

use super::{Member, Primary};
use crate::engine::replication::Version;
use crate::engine::replication::column::Column;

impl<P: Clone, W> Column<P, W> {
    /// This OSD has the object's version and not its bytes: it lacks the object until somebody gave it.
    pub(in crate::engine::replication) fn lost_bytes(&mut self, object: u64, local: Version) {
        let Some(primary) = &mut self.primary else { return };
        // With changes under way it is not known which version would have to be got.
        if local == Version::default() || primary.lacks(object) || primary.objects.contains_key(&object) {
            rt::site!("column.damage.in_change", primary.objects.contains_key(&object));
            rt::site!("column.damage.known", primary.lacks(object));
            return;
        }
        rt::site!("column.damage.noticed");
        primary.heads.insert(object, local);
        primary.damaged.insert(object);
        let own = primary.own();
        own.dirty.insert(object);
        own.has.insert(object, local);
    }

    /// Something that is damaged here is whole nowhere, and so many lack it that it cannot have been committed. What the
    /// others have counts, which only an opening can say: the state of an epoch is computed once.
    pub(super) fn is_hopeless(&mut self) -> bool {
        let Some(primary) = &mut self.primary else { return false };
        let heads = &primary.heads;
        primary.damaged.retain(|object| heads.contains_key(object));
        let Some(primary) = &self.primary else { return false };
        primary.damaged.iter().any(|object| self.holder(*object).is_none() && primary.too_many_lack(*object))
    }
}

impl<P, W> Primary<P, W> {
    /// Members whose state is known and older, as an opening would count them.
    fn too_many_lack(&self, object: u64) -> bool {
        let head = self.heads.get(&object);
        let lacks = |(_, member): &(&u64, &Member)| {
            member.up
                && member.is_known()
                && member.dirty.contains(&object)
                && member.has.get(&object) != head
        };
        let size = self.voters().count();
        self.voters().filter(lacks).count() > size - self.needed()
    }
}
