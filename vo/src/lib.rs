//! Virtual organisations: will keep a VO as a tree of signed files in its system volume, issue short-lived X.509
//! certificates, and decide requests by the policies of VO, node and user, all of which must permit.
//!
//! Nothing runs here yet. Until it does, identity is that of the operating system: the mount tells the uid, and jobs
//! run as the owner of their descriptor.
