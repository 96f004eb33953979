//! The duty to answer one request.

use std::sync::Arc;

use super::answer::Answer;
use super::device::Device;
use super::ring::Mailbox;

/// Answers one request, once. Dropped without an answer it fails the request, so that nobody waits for ever; unless
/// another process will be asked again.
#[derive(Debug)]
pub(in crate::fuse) struct Responder {
    unique: u64,
    way: Option<Way>,
    /// A successor of this process is sent what it leaves unanswered.
    survivable: bool,
}

#[derive(Debug)]
pub(in crate::fuse) enum Way {
    Device(Device),
    /// The queue of a ring, and the entry that the request came in.
    Queue(Arc<Mailbox>, usize),
}

impl Responder {
    pub(in crate::fuse) fn new(unique: u64, way: Way, survivable: bool) -> Self {
        Self { unique, way: Some(way), survivable }
    }

    pub(in crate::fuse) fn answer(mut self, answer: Answer) {
        self.send(answer);
    }

    fn send(&mut self, answer: Answer) {
        let Some(way) = self.way.take() else { return };
        let sent = match way {
            Way::Device(device) => device.answer(self.unique, &answer),
            Way::Queue(mailbox, entry) => mailbox.post(entry, self.unique, answer),
        };
        if let Err(error) = sent {
            // The kernel took the request off its list: its caller hears of an error.
            tracing::error!(unique = self.unique, %error, "the kernel refused an answer");
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if self.way.is_some() && (!self.survivable || std::thread::panicking()) {
            tracing::warn!(unique = self.unique, "a request of the kernel was dropped unanswered");
            self.send(Answer::error(libc::EIO));
        }
    }
}
