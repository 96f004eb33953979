//! A mount being served: the handshake, and the threads that read requests and run them to their end.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;

use super::abi::{self, opcode};
use super::answer::Answer;
use super::buffers::{Buffers, Owner, worth_sharing};
use super::device::Device;
use super::init::{self, Agreed, Handshake, Wishes};
use super::notify::Notifier;
use super::operation::{Arguments, Header, Layout, Operation, Parsed};
use super::responder::{Responder, Way};
use super::ring;

/// A request and whatever is needed to look into it.
#[derive(Debug)]
pub(in crate::fuse) struct Request<'a> {
    pub(in crate::fuse) header: Header,
    pub(in crate::fuse) parsed: Parsed<'a>,
    /// Who owns its bytes.
    pub(in crate::fuse) owner: Owner<'a>,
}

/// Who does what the kernel asks for.
pub(in crate::fuse) trait Handler: Send + Sync + 'static {
    /// Does it and answers, now or later, from any thread.
    fn handle(&self, request: Request<'_>, responder: Responder);

    /// A signal came for the caller of the request `unique`.
    fn interrupt(&self, unique: u64);
}

/// A connection on which both sides agree.
#[derive(Debug)]
pub(in crate::fuse) struct Session {
    device: Device,
    agreed: Agreed,
    notifier: Notifier,
    /// Threads that read.
    pub(in crate::fuse) threads: usize,
    /// A successor may take the mount up: nothing of it may depend on this process.
    pub(in crate::fuse) survivable: bool,
}

impl Session {
    /// Shakes hands with the kernel of a fresh mount; waits for it.
    pub(in crate::fuse) fn open(fd: OwnedFd, wishes: &Wishes) -> io::Result<Self> {
        let device = Arc::new(fd);
        let agreed = shake_hands(&Device::new(device.clone()), wishes)?;
        Ok(Self::new(device, agreed))
    }

    /// Goes on where a dead process stopped, with what that one agreed on. The kernel is asked to send again what it
    /// had read and not answered.
    pub(in crate::fuse) fn take_up(fd: OwnedFd, agreed: Agreed) -> io::Result<Self> {
        let session = Self::new(Arc::new(fd), agreed);
        if !session.notifier.resend()? {
            tracing::warn!("this kernel cannot send requests again; some programs may have to be killed");
        }
        Ok(session)
    }

    fn new(fd: Arc<OwnedFd>, agreed: Agreed) -> Self {
        let notifier = Notifier::new(fd.clone());
        notifier.agreed_on(agreed.minor);
        Self { device: Device::new(fd), agreed, notifier, threads: 2, survivable: false }
    }

    pub(in crate::fuse) fn agreed(&self) -> &Agreed {
        &self.agreed
    }

    /// Whether requests come over io_uring.
    pub(in crate::fuse) fn uses_ring(&self) -> bool {
        self.agreed.has(abi::init::OVER_IO_URING)
    }

    pub(in crate::fuse) fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// Serves until the file system is unmounted.
    pub(in crate::fuse) fn serve<H: Handler>(self, handler: Arc<H>) -> io::Result<()> {
        let buffers = Buffers::new(self.agreed.request_bytes as usize);
        // With a ring little comes by read(2): FORGET, INTERRUPT, and what was asked before the ring was ready.
        let threads = if self.uses_ring() { 1 } else { self.threads.max(1) };
        let mut readers: Vec<JoinHandle<io::Result<()>>> = (0..threads)
            .map(|number| {
                // With a channel of its own a dead process would leave failed requests behind.
                let device = if number == 0 || self.survivable {
                    self.device.clone()
                } else {
                    self.device.another().unwrap_or_else(|error| {
                        tracing::debug!(%error, "FUSE threads share one channel");
                        self.device.clone()
                    })
                };
                let reader = Reader {
                    device,
                    handler: handler.clone(),
                    layout: self.agreed.layout(),
                    survivable: self.survivable,
                };
                let buffers = buffers.clone();
                std::thread::Builder::new().name(format!("fuse-{number}")).spawn(move || reader.run(&buffers))
            })
            .collect::<io::Result<_>>()?;
        if self.uses_ring() {
            let (layout, bytes) = (self.agreed.layout(), self.agreed.request_bytes as usize);
            readers.extend(ring::start(self.device.fd(), &handler, layout, bytes)?);
        }
        let mut result = Ok(());
        for reader in readers {
            let ended = reader
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a FUSE thread panicked; see the log")));
            result = result.and(ended);
        }
        result
    }
}

fn shake_hands(device: &Device, wishes: &Wishes) -> io::Result<Agreed> {
    let mut buffer = Buffers::new(0).take();
    loop {
        let Some(len) = device.read(buffer.space())? else {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "it was unmounted before it was served"));
        };
        let bytes = buffer.as_ref().get(..len).unwrap_or_default();
        let Some((header, arguments)) = split(bytes) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the kernel's first request is malformed",
            ));
        };
        // How xattr requests look is not known yet, and does not matter.
        let parsed = Parsed::parse(&header, arguments, Layout { setxattr_ext: false });
        let Some(Operation::Init(offer)) = parsed.map(|parsed| parsed.operation) else {
            device.answer(header.unique, &Answer::error(libc::EIO))?;
            continue;
        };
        match init::decide(&offer, wishes) {
            Handshake::Agree(agreed, out) => {
                device.answer(header.unique, &Answer::data(out))?;
                tracing::debug!(minor = agreed.minor, flags = agreed.flags, "agreed with the kernel");
                return Ok(agreed);
            }
            Handshake::AskAgain(out) => device.answer(header.unique, &Answer::data(out))?,
            Handshake::Refuse(why) => {
                device.answer(header.unique, &Answer::error(libc::EPROTO))?;
                return Err(io::Error::new(io::ErrorKind::Unsupported, why));
            }
        }
    }
}

/// Header and arguments of a request that was read as one piece.
fn split(bytes: &[u8]) -> Option<(Header, Arguments<'_>)> {
    let (header, len) = Header::parse(bytes)?;
    let arguments = bytes.get(abi::IN_HEADER_BYTES..len)?;
    Some((header, Arguments::Together(arguments)))
}

/// One thread that reads requests.
struct Reader<H> {
    device: Device,
    handler: Arc<H>,
    layout: Layout,
    survivable: bool,
}

impl<H: Handler> Reader<H> {
    fn run(self, buffers: &Arc<Buffers>) -> io::Result<()> {
        let mut buffer = buffers.take();
        while let Some(len) = self.device.read(buffer.space())? {
            if worth_sharing(len) {
                let whole = Bytes::from_owner(std::mem::replace(&mut buffer, buffers.take())).slice(..len);
                self.take(&whole, Owner::Shared(&whole));
            } else {
                self.take(&buffer.as_ref()[..len], Owner::Borrowed);
            }
        }
        Ok(())
    }

    fn take(&self, bytes: &[u8], owner: Owner<'_>) {
        let Some((header, arguments)) = split(bytes) else {
            tracing::error!(len = bytes.len(), "the kernel sent what is no request");
            return;
        };
        let way = Way::Device(self.device.clone());
        deliver(&*self.handler, header, arguments, owner, self.layout, || {
            Responder::new(header.unique, way, self.survivable)
        });
    }
}

/// Hands a request to who does it, or does it when it is about the connection itself.
pub(in crate::fuse) fn deliver(
    handler: &impl Handler,
    header: Header,
    arguments: Arguments<'_>,
    owner: Owner<'_>,
    layout: Layout,
    responder: impl FnOnce() -> Responder,
) {
    // These are not answered.
    if matches!(header.opcode, opcode::FORGET | opcode::BATCH_FORGET | opcode::NOTIFY_REPLY) {
        return;
    }
    let parsed = Parsed::parse(&header, arguments, layout);
    match parsed {
        Some(Parsed { operation: Operation::Interrupt { unique }, .. }) => handler.interrupt(unique),
        Some(Parsed { operation: Operation::Destroy, .. }) => responder().answer(Answer::done()),
        Some(parsed) => handler.handle(Request { header, parsed, owner }, responder()),
        None if header.opcode == opcode::INTERRUPT => {}
        None => {
            tracing::error!(opcode = header.opcode, "a request of the kernel does not parse");
            responder().answer(Answer::error(libc::EINVAL));
        }
    }
}
