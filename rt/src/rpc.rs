//! Calls between processes: who serves, how to reach it, what travels.
//!
//! A [`Service`] answers [`Request`]s; a [`Channel`] carries them there and the answer back; a [`Connector`] turns
//! an address into a channel and keeps it. The same service is reached in process (the call runs to its end on
//! the caller's thread), over TCP, over TLS 1.3 with mutual certificates, or over a simulated network.

pub mod connector;
pub mod local;
mod outbox;
pub mod sim;
pub mod tcp;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use proto::error::{Code, WireError};
use proto::rpc::Method;

pub use connector::{Address, Connector};

/// A boxed future, for traits.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A request as a service sees it.
#[derive(Debug, Clone)]
pub struct Request {
    /// `Method::NUMBER`.
    pub method: u16,
    /// The prost message.
    pub message: Bytes,
    /// Raw bytes beside it.
    pub payload: Bytes,
    /// Time left for it.
    pub deadline: Duration,
    /// Follows a user's operation through all services.
    pub trace: u64,
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub struct Response {
    /// The prost message.
    pub message: Bytes,
    /// Raw bytes beside it.
    pub payload: Bytes,
}

impl Response {
    /// An answer without payload.
    pub fn of(message: &impl Message) -> Self {
        Self { message: Bytes::from(message.encode_to_vec()), payload: Bytes::new() }
    }

    /// An answer with payload.
    pub fn with_payload(message: &impl Message, payload: Bytes) -> Self {
        Self { message: Bytes::from(message.encode_to_vec()), payload }
    }
}

/// Who sent a request. Identity comes from the connection, never from the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// The same process.
    Local,
    /// A TCP peer without a certificate; the address is for logs only.
    Plain(String),
    /// A TLS peer with this certificate subject.
    Certified(String),
}

/// Answers requests.
pub trait Service: Send + Sync + 'static {
    /// Answers one request. Dropping the future cancels it.
    fn call(self: Arc<Self>, peer: Peer, request: Request)
    -> BoxFuture<'static, Result<Response, WireError>>;

    /// Begins several requests that arrived together. A service that does better with what they ask for when it has all of it overrides this.
    fn together<'a>(&'a self, begin_all: BoxFuture<'a, io::Result<()>>) -> BoxFuture<'a, io::Result<()>> {
        begin_all
    }
}

/// Carries requests to one service.
pub trait Channel: Send + Sync + 'static {
    /// Sends a request and waits for its answer, at most until its deadline.
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Response, WireError>>;

    /// Sends a request whose answer nobody needs: done when it is on its way, in the order of sending. It is lost
    /// without a word when the connection breaks afterwards; who needs to know, calls.
    fn tell(&self, request: Request) -> BoxFuture<'_, Result<(), WireError>> {
        Box::pin(async move { self.call(request).await.map(drop) })
    }

    /// The address, for messages to people.
    fn address(&self) -> &str;
}

/// What a caller may say about a call.
#[derive(Debug, Clone)]
pub struct CallOptions {
    /// Time for the whole call.
    pub deadline: Duration,
    /// Trace id.
    pub trace: u64,
}

impl Default for CallOptions {
    fn default() -> Self {
        Self { deadline: Duration::from_millis(proto::limits::DEADLINE_DEFAULT_MS), trace: 0 }
    }
}

/// Calls a typed method with a payload; gives the reply and its payload.
pub async fn call_with<M: Method>(
    channel: &dyn Channel,
    message: &M::Request,
    payload: Bytes,
    options: &CallOptions,
) -> Result<(M::Reply, Bytes), WireError> {
    let request = Request {
        method: M::NUMBER,
        message: Bytes::from(message.encode_to_vec()),
        payload,
        deadline: options.deadline,
        trace: options.trace,
    };
    let response = channel.call(request).await?;
    let reply = M::Reply::decode(response.message).map_err(|error| {
        WireError::new(
            Code::Internal,
            format!("{} sent an unreadable answer to {}: {error}", channel.address(), M::NAME),
        )
    })?;
    Ok((reply, response.payload))
}

/// Tells a typed message: see [`Channel::tell`].
pub async fn tell<M: Method>(
    channel: &dyn Channel,
    message: &M::Request,
    deadline: Duration,
) -> Result<(), WireError> {
    let message = Bytes::from(message.encode_to_vec());
    let request = Request { method: M::NUMBER, message, payload: Bytes::new(), deadline, trace: 0 };
    channel.tell(request).await
}

/// Calls a typed method without payloads, with default options.
pub async fn call<M: Method>(channel: &dyn Channel, message: &M::Request) -> Result<M::Reply, WireError> {
    Ok(call_with::<M>(channel, message, Bytes::new(), &CallOptions::default()).await?.0)
}

/// Parses a request's message, or refuses it with the method's name.
pub fn parse<M: Method>(request: &Request) -> Result<M::Request, WireError> {
    M::Request::decode(request.message.clone())
        .map_err(|error| WireError::new(Code::BadRequest, format!("unreadable {} request: {error}", M::NAME)))
}

/// The refusal of a method number that a service does not know.
#[must_use]
pub fn unknown_method(service: &str, number: u16) -> WireError {
    WireError::new(
        Code::UnknownMethod,
        format!(
            "{service} does not know method {number:#06x}; is it older than the caller, or another service?"
        ),
    )
}
