//! RMS, the replica management service: will watch the OSD map, replica lists and access counts, and keep a queue of
//! what to do about them, least redundant first: re-replicate, drain, rebalance, convert to erasure codes, scrub,
//! collect orphans.
//!
//! Nothing runs here yet. It comes with replication between OSDs, which is what it has to manage; until then files
//! have one copy, and `xtfs osd drain` only keeps new files away from an OSD. It will be a client of volumes (tier
//! 1): its queue and its decisions are files, so that killing it loses nothing.
