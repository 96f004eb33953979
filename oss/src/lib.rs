//! OSS, the object sharing service: will give processes on many nodes shared memory with transactions. Segments of
//! objects or pages, optimistic (read set with versions, write set), validated at the segment's home, numbered
//! commits, automatic retry; redo log and snapshots are files of a volume.
//!
//! Nothing runs here yet.
