//! What waits to be written to a connection.
//!
//! On plain TCP the sender writes on its own thread whatever the socket takes at once; only the rest waits for the
//! connection's writer. With TLS everything goes through the writer. Bounded: beyond [`OUTBOX_BYTES_MAX`] senders wait.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use proto::frame::Header;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

/// Bytes that may wait on one connection.
const OUTBOX_BYTES_MAX: usize = 64 << 20;

#[derive(Default)]
struct Queue {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    closed: bool,
}

pub(super) struct Outbox {
    /// order: leaf lock; held during one non-blocking write at most.
    queue: Mutex<Queue>,
    /// Something to write, or closed.
    work: Notify,
    /// Room again, or closed.
    room: Notify,
    direct: Option<Arc<OwnedWriteHalf>>,
}

impl Outbox {
    pub(super) fn new(direct: Option<Arc<OwnedWriteHalf>>) -> Arc<Self> {
        Arc::new(Self { queue: Mutex::default(), work: Notify::new(), room: Notify::new(), direct })
    }

    /// Sends one frame; waits while too much is queued. Fails when the connection is closed.
    pub(super) async fn send(&self, header: Header, message: Bytes, payload: Bytes) -> io::Result<()> {
        loop {
            let room = self.room.notified();
            {
                let queue = self.queue.lock();
                if queue.closed {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                if queue.bytes < OUTBOX_BYTES_MAX {
                    break;
                }
            }
            room.await;
        }
        self.push(header, message, payload)
    }

    fn push(&self, header: Header, message: Bytes, payload: Bytes) -> io::Result<()> {
        let head = header.encode(&message);
        let mut queue = self.queue.lock();
        if queue.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let total = head.len() + message.len() + payload.len();
        let mut written = 0;
        if let (Some(stream), true) = (&self.direct, queue.chunks.is_empty()) {
            let slices = [IoSlice::new(&head), IoSlice::new(&message), IoSlice::new(&payload)];
            match stream.try_write_vectored(&slices) {
                Ok(bytes) => written = bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    self.close_locked(&mut queue);
                    return Err(error);
                }
            }
        }
        if written < total {
            for part in [Bytes::copy_from_slice(&head), message, payload] {
                let skip = written.min(part.len());
                written -= skip;
                let rest = part.slice(skip..);
                if !rest.is_empty() {
                    queue.bytes += rest.len();
                    queue.chunks.push_back(rest);
                }
            }
            self.work.notify_one();
        }
        Ok(())
    }

    fn close_locked(&self, queue: &mut Queue) {
        queue.closed = true;
        queue.chunks.clear();
        queue.bytes = 0;
        self.work.notify_one();
        self.room.notify_waiters();
    }

    pub(super) fn close(&self) {
        self.close_locked(&mut self.queue.lock());
    }

    pub(super) fn is_closed(&self) -> bool {
        self.queue.lock().closed
    }

    /// The writer of a plain connection: writes what senders could not.
    pub(super) async fn drain_plain(&self, stream: &OwnedWriteHalf) {
        loop {
            self.work.notified().await;
            loop {
                {
                    let mut queue = self.queue.lock();
                    if queue.closed {
                        return;
                    }
                    if queue.chunks.is_empty() {
                        break;
                    }
                    let wrote = {
                        let slices: Vec<IoSlice<'_>> =
                            queue.chunks.iter().take(64).map(|chunk| IoSlice::new(chunk)).collect();
                        stream.try_write_vectored(&slices)
                    };
                    match wrote {
                        Ok(bytes) => {
                            self.took(&mut queue, bytes);
                            continue;
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(_) => {
                            self.close_locked(&mut queue);
                            return;
                        }
                    }
                }
                if stream.writable().await.is_err() {
                    self.close();
                    return;
                }
            }
        }
    }

    fn took(&self, queue: &mut Queue, mut bytes: usize) {
        queue.bytes -= bytes;
        while bytes > 0 {
            let Some(first) = queue.chunks.front_mut() else { break };
            let step = bytes.min(first.len());
            first.advance(step);
            bytes -= step;
            if first.is_empty() {
                queue.chunks.pop_front();
            }
        }
        if queue.bytes < OUTBOX_BYTES_MAX {
            self.room.notify_waiters();
        }
    }

    /// The writer of a TLS connection: writes everything.
    pub(super) async fn drain_stream(&self, mut stream: impl AsyncWrite + Unpin) {
        loop {
            self.work.notified().await;
            loop {
                let chunks: Vec<Bytes> = {
                    let mut queue = self.queue.lock();
                    if queue.closed {
                        return;
                    }
                    queue.bytes = 0;
                    self.room.notify_waiters();
                    queue.chunks.drain(..).collect()
                };
                if chunks.is_empty() {
                    break;
                }
                for chunk in chunks {
                    if stream.write_all(&chunk).await.is_err() {
                        self.close();
                        return;
                    }
                }
                if stream.flush().await.is_err() {
                    self.close();
                    return;
                }
            }
        }
    }
}
