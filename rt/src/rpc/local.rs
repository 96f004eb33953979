//! Calls within the process: the service's future runs on the caller's thread, nothing is queued.

use std::sync::Arc;

use proto::error::{Code, WireError};

use super::{BoxFuture, Channel, Peer, Request, Response, Service};

/// A channel to a service of this process.
pub struct LocalChannel {
    service: Arc<dyn Service>,
    address: String,
}

impl LocalChannel {
    /// A channel that shows `address` in messages.
    pub fn new(service: Arc<dyn Service>, address: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { service, address: address.into() })
    }
}

impl Channel for LocalChannel {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Response, WireError>> {
        let deadline = request.deadline;
        let mut answer = self.service.clone().call(Peer::Local, request);
        Box::pin(async move {
            // The first poll costs no timer: a call that runs to its end at once never needs one.
            if let std::task::Poll::Ready(result) = futures::poll!(&mut answer) {
                return result;
            }
            tokio::time::timeout(deadline, answer).await.unwrap_or_else(|_| {
                Err(WireError::new(
                    Code::DeadlineExceeded,
                    format!("{} did not answer within {} ms", self.address, deadline.as_millis()),
                ))
            })
        })
    }

    fn address(&self) -> &str {
        &self.address
    }
}
