//! What is in the DIR's log, and what applying it answers. Wire rule of `proto`: tags are never reused.

use bytes::Bytes;
use prost::Message;
use proto::dir::{OsdEntry, ServiceEntry, VolumeEntry};
use proto::error::{ErrorMessage, WireError};

/// One entry of the log.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Command {
    #[prost(oneof = "Change", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10")]
    pub(crate) change: Option<Change>,
}

/// What it does.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Change {
    /// Gives the cluster its identity and first key; does nothing when it has one.
    #[prost(message, tag = "1")]
    Bootstrap(Bootstrap),
    /// An OSD is alive at this address: registers it, brings it up, moves it. Answers its number.
    #[prost(message, tag = "2")]
    RegisterOsd(OsdEntry),
    /// An OSD is dead at this address.
    #[prost(message, tag = "3")]
    TakeDown(TakeDown),
    /// The administrator's will about an OSD.
    #[prost(message, tag = "4")]
    SetAdmin(SetAdmin),
    /// Makes a volume. Answers its entry.
    #[prost(message, tag = "5")]
    CreateVolume(VolumeEntry),
    /// Removes the volume of that name.
    #[prost(string, tag = "6")]
    RemoveVolume(String),
    /// Remembers a service's address.
    #[prost(message, tag = "7")]
    PutService(ServiceEntry),
    /// Forgets a service of that UUID.
    #[prost(string, tag = "8")]
    ForgetService(String),
    /// Adds a capability key; drops those that can no longer be in use.
    #[prost(message, tag = "9")]
    RotateKey(RotateKey),
    /// The administrator's word about an OSD's share of new files.
    #[prost(message, tag = "10")]
    SetWeight(SetWeight),
}

/// See [`Change::Bootstrap`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Bootstrap {
    /// Identity, unique in the world.
    #[prost(string, tag = "1")]
    pub(crate) cluster: String,
    /// Name for people.
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    /// Secret of the first capability key, 32 random bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) secret: Vec<u8>,
}

/// See [`Change::TakeDown`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TakeDown {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub(crate) osd: u64,
    /// Where it was dead; nothing happens when it has moved since.
    #[prost(string, tag = "2")]
    pub(crate) addr: String,
}

/// See [`Change::SetAdmin`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SetAdmin {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub(crate) osd: u64,
    /// `Up`, `Draining` or `Out` of `proto::dir::OsdState`.
    #[prost(enumeration = "proto::dir::OsdState", tag = "2")]
    pub(crate) admin: i32,
}

/// See [`Change::SetWeight`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SetWeight {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub(crate) osd: u64,
    /// Percent of an ordinary one.
    #[prost(uint32, tag = "2")]
    pub(crate) weight: u32,
}

/// See [`Change::RotateKey`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RotateKey {
    /// 32 random bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) secret: Vec<u8>,
    /// The newest key that the proposer knew: two leaders do not both rotate.
    #[prost(uint32, tag = "2")]
    pub(crate) after: u32,
}

impl From<Change> for Command {
    fn from(change: Change) -> Self {
        Self { change: Some(change) }
    }
}

/// What applying a command answered: the reply's bytes, or the refusal.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Answer {
    #[prost(oneof = "Outcome", tags = "1, 2")]
    outcome: Option<Outcome>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Outcome {
    #[prost(bytes = "bytes", tag = "1")]
    Done(Bytes),
    #[prost(message, tag = "2")]
    Refused(ErrorMessage),
}

impl Answer {
    /// From what apply decided.
    pub(crate) fn encode_result(result: Result<Bytes, WireError>) -> Bytes {
        let outcome = match result {
            Ok(reply) => Outcome::Done(reply),
            Err(error) => Outcome::Refused(error.into()),
        };
        Answer { outcome: Some(outcome) }.encode_to_vec().into()
    }

    /// The inverse of [`Answer::encode_result`].
    pub(crate) fn decode_result(bytes: Bytes) -> Result<Bytes, WireError> {
        use proto::error::Code;
        let broken = |why: String| {
            WireError::new(Code::Internal, format!("unreadable answer of the DIR's log: {why}"))
        };
        match Answer::decode(bytes).map_err(|error| broken(error.to_string()))?.outcome {
            Some(Outcome::Done(reply)) => Ok(reply),
            Some(Outcome::Refused(error)) => Err(error.into()),
            None => Err(broken("no outcome".to_owned())),
        }
    }
}
