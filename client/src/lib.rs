//! The client: files of a volume as a library, and the mount as a thin door over it.
//!
//! What is here: finding leaders and OSDs, sessions, retries, striping, checksums, sizes of files that are being
//! written. What never is: policy (who may do what is the MRC's business) and anything that only one caller needs.
//!
//! Reading order: [`config`] and [`error`], [`engine`] (the decisions, pure), [`remote`] (typed stubs that retry),
//! [`client`] (one per process), [`volume`] (names and attributes), [`file`] (data), [`fuse`] (the kernel's door).
//!
//! ```no_run
//! # async fn walk() -> client::Result<()> {
//! use client::{Client, ClientConfig, Creds};
//! let client = Client::connect(ClientConfig::new(vec!["tcp://localhost:32638".into()], "example")).await?;
//! let volume = client.volume("default").await?;
//! volume.write_file_atomic(&Creds::root(), "/greeting", b"hello", 0o644).await?;
//! assert_eq!(volume.read_file(&Creds::root(), "/greeting").await?, &b"hello"[..]);
//! # Ok(()) }
//! ```

pub mod config;
pub mod error;

pub mod engine;
pub mod remote;

pub mod client;
pub(crate) mod creates;
pub mod file;
pub mod lease;
pub mod stage;
pub mod volume;

mod parked;

pub mod fuse;

pub use client::Client;
pub use config::{ClientConfig, Creds, Patience};
pub use error::{Code, Error, Result};
pub use file::File;
pub use volume::Volume;
