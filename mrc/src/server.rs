//! From method numbers to operations.

use proto::backup::{DumpLoad, DumpRead};
use proto::changes::Changes;
use proto::coding::{EncodeBegin, EncodeCommit, EncodeDamaged, EncodeDrop, EncodeList};
use proto::dir::Group as GroupStatusCall;
use proto::error::WireError;
use proto::find::Find;
use proto::fsck::{FsckMend, FsckRun, LostCollect};
use proto::layout::{LayoutGet, LayoutSet};
use proto::mrc::{
    Access, AcquireLease, AwaitRecalls, Close, CloseMany, CompleteReplicas, Create, CreateMany,
    DemoteReplicas, GetAttr, GetLayout, GetXattr, HoldMany, Link, ListReplicas, ListXattr, Lock, Lookup,
    MetadataSync, MkDir, MkNod, Open, ReadDir, ReadLink, Rename, ReturnLeases, RmDir, SessionClose,
    SessionOpen, SessionRenew, SetAttr, SetReplicas, SetXattr, StatFs, Symlink, TellLocks, TmpFile, Unlink,
    VolumeDrop, VolumeInit, Walk, WriteDone,
};
use proto::quota::{QuotaLs, QuotaSet};
use proto::raft::{Deliver, LeaderTransfer, MemberAdd, MemberRemove, Peer};
use proto::rpc::Method;
use proto::snapshot::{CloneData, FoldLayers, SnapshotCreate, SnapshotLs, SnapshotRemove};
use proto::trash::{TrashKeep, TrashLs, TrashRemove, TrashRestore};
use proto::usage::Usage;
use rt::rpc::{Request, Response, unknown_method};

use crate::ops;
use crate::service::Mrc;

pub(crate) async fn dispatch(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    match request.method {
        Lookup::NUMBER => ops::lookup::serve(mrc, request).await,
        GetAttr::NUMBER => ops::getattr::serve(mrc, request).await,
        Walk::NUMBER => ops::walk::serve(mrc, request).await,
        ReadDir::NUMBER => ops::readdir::serve(mrc, request).await,
        ReadLink::NUMBER => ops::readlink::serve(mrc, request).await,
        StatFs::NUMBER => ops::statfs::serve(mrc, request).await,
        Access::NUMBER => ops::access::serve(mrc, request).await,
        GetXattr::NUMBER => ops::getxattr::serve(mrc, request).await,
        ListXattr::NUMBER => ops::listxattr::serve(mrc, request).await,
        GetLayout::NUMBER => ops::layout::serve(mrc, request).await,
        MkDir::NUMBER => ops::mkdir::serve(mrc, request).await,
        MkNod::NUMBER => ops::mknod::serve(mrc, request).await,
        Symlink::NUMBER => ops::symlink::serve(mrc, request).await,
        Create::NUMBER => ops::create::serve(mrc, request).await,
        CreateMany::NUMBER => ops::create_many::serve(mrc, request).await,
        TmpFile::NUMBER => ops::tmpfile::serve(mrc, request).await,
        Open::NUMBER => ops::open::serve(mrc, request).await,
        Close::NUMBER => ops::close::serve(mrc, request).await,
        CloseMany::NUMBER => ops::close::serve_many(mrc, request).await,
        Unlink::NUMBER => ops::unlink::serve(mrc, request).await,
        RmDir::NUMBER => ops::rmdir::serve(mrc, request).await,
        Link::NUMBER => ops::link::serve(mrc, request).await,
        Rename::NUMBER => ops::rename::serve(mrc, request).await,
        SetAttr::NUMBER => ops::setattr::serve(mrc, request).await,
        WriteDone::NUMBER => ops::write_done::serve(mrc, request).await,
        SetXattr::NUMBER => ops::setxattr::serve(mrc, request).await,
        Lock::NUMBER => ops::lock::serve(mrc, request).await,
        TellLocks::NUMBER => ops::tell_locks::serve(mrc, request).await,
        MetadataSync::NUMBER => ops::sync::serve(mrc, request).await,
        SessionOpen::NUMBER => ops::session_open::serve(mrc, request).await,
        SessionRenew::NUMBER => ops::session_renew::serve(mrc, request).await,
        SessionClose::NUMBER => ops::session_close::serve(mrc, request).await,
        AcquireLease::NUMBER => ops::acquire_lease::serve(mrc, request).await,
        AwaitRecalls::NUMBER => ops::await_recalls::serve(mrc, request).await,
        HoldMany::NUMBER => ops::hold_many::serve(mrc, request).await,
        ReturnLeases::NUMBER => ops::return_leases::serve(mrc, request).await,
        SetReplicas::NUMBER => ops::replicas::set(mrc, request).await,
        DemoteReplicas::NUMBER => ops::replicas::demote(mrc, request).await,
        CompleteReplicas::NUMBER => ops::replicas::complete(mrc, request).await,
        ListReplicas::NUMBER => ops::replicas::list(mrc, request).await,
        VolumeInit::NUMBER => ops::volume_init::serve(mrc, request).await,
        VolumeDrop::NUMBER => ops::volume_drop::serve(mrc, request).await,
        LayoutSet::NUMBER => ops::layout_default::set(mrc, request).await,
        LayoutGet::NUMBER => ops::layout_default::get(mrc, request).await,
        TrashKeep::NUMBER => ops::trash::keep(mrc, request).await,
        TrashLs::NUMBER => ops::trash::list(mrc, request).await,
        TrashRestore::NUMBER => ops::trash::restore(mrc, request).await,
        TrashRemove::NUMBER => ops::trash::remove(mrc, request).await,
        SnapshotCreate::NUMBER => ops::snapshot::create(mrc, request).await,
        SnapshotRemove::NUMBER => ops::snapshot::remove(mrc, request).await,
        SnapshotLs::NUMBER => ops::snapshot::list(mrc, request).await,
        FoldLayers::NUMBER => ops::snapshot::fold(mrc, request).await,
        CloneData::NUMBER => ops::snapshot::clone(mrc, request).await,
        EncodeBegin::NUMBER => ops::coding::begin(mrc, request).await,
        EncodeCommit::NUMBER => ops::coding::commit(mrc, request).await,
        EncodeDrop::NUMBER => ops::coding::drop_pending(mrc, request).await,
        EncodeList::NUMBER => ops::coding::list(mrc, request).await,
        EncodeDamaged::NUMBER => ops::coding::damaged(mrc, request).await,
        DumpRead::NUMBER => ops::dump::read(mrc, request).await,
        DumpLoad::NUMBER => ops::dump::load(mrc, request).await,
        FsckRun::NUMBER => ops::fsck::run(mrc, request).await,
        FsckMend::NUMBER => ops::fsck::mend(mrc, request).await,
        LostCollect::NUMBER => ops::collect_lost::serve(mrc, request).await,
        QuotaSet::NUMBER => ops::quota_set::serve(mrc, request).await,
        QuotaLs::NUMBER => ops::quota_list::serve(mrc, request).await,
        Find::NUMBER => ops::find::serve(mrc, request).await,
        Usage::NUMBER => ops::usage::serve(mrc, request).await,
        Changes::NUMBER => ops::changes::serve(mrc, request).await,
        Deliver::NUMBER
        | Peer::NUMBER
        | MemberAdd::NUMBER
        | MemberRemove::NUMBER
        | LeaderTransfer::NUMBER => mrc.group().serve(request).await,
        GroupStatusCall::NUMBER => Ok(Response::of(&mrc.group().status())),
        other => Err(unknown_method("the MRC", other)),
    }
}
