//! An entry of a queue: the memory that a request comes in and its answer goes out through.

use std::os::fd::RawFd;

use io_uring::{opcode, squeue, types};

use super::super::abi::OUT_HEADER_BYTES;
use super::super::answer::Answer;
use super::super::fields::Put;

/// `FUSE_IO_URING_CMD_REGISTER`: here is an entry.
pub(super) const REGISTER: u32 = 1;
/// `FUSE_IO_URING_CMD_COMMIT_AND_FETCH`: here is an answer, and the entry for the next request.
pub(super) const COMMIT_AND_FETCH: u32 = 2;
/// Where `len` is in a submission; the crate has no setter for this operation.
const LEN_AT: usize = 24;
/// Parts of an entry: header and payload.
const PARTS: u32 = 2;

/// `fuse_uring_req_header`.
#[repr(C, align(8))]
struct Head {
    /// `fuse_in_header`, then `fuse_out_header`.
    in_out: [u8; 128],
    /// The operation's structure.
    op_in: [u8; 128],
    flags: u64,
    commit_id: u64,
    payload_bytes: u32,
    padding: u32,
    reserved: u64,
}

const _: () = assert!(size_of::<Head>() == 288);

/// Memory shared with the kernel; reached through pointers, because the kernel writes it at times.
pub(super) struct Entry {
    head: *mut Head,
    payload: *mut [u8],
    /// What the kernel is shown once, at registration.
    parts: Box<[libc::iovec; PARTS as usize]>,
}

impl Entry {
    /// For requests with at most `request_bytes` of data.
    pub(super) fn new(request_bytes: usize) -> Self {
        let head = Box::into_raw(Box::new(Head {
            in_out: [0; 128],
            op_in: [0; 128],
            flags: 0,
            commit_id: 0,
            payload_bytes: 0,
            padding: 0,
            reserved: 0,
        }));
        // Zeroed memory of this size is address space only, until it is used.
        let payload = Box::into_raw(vec![0u8; request_bytes].into_boxed_slice());
        let part = |base: *mut libc::c_void, len| libc::iovec { iov_base: base, iov_len: len };
        let parts = Box::new([part(head.cast(), size_of::<Head>()), part(payload.cast(), request_bytes)]);
        Self { head, payload, parts }
    }

    /// The submission that gives this entry to the kernel; `unique` is of the request answered.
    pub(super) fn request(&self, fd: RawFd, queue: u16, command: u32, unique: u64) -> squeue::Entry128 {
        // `fuse_uring_cmd_req`: flags, commit_id, qid.
        let mut argument = [0; 80];
        argument[8..16].copy_from_slice(&unique.to_ne_bytes());
        argument[16..18].copy_from_slice(&queue.to_ne_bytes());
        let parts = self.parts.as_ptr() as u64;
        let mut request =
            opcode::UringCmd80::new(types::Fd(fd), command).cmd(argument).addr(Some(parts)).build();
        // SAFETY: a submission is 128 plain bytes; `len` is the word at 24 (`struct io_uring_sqe`).
        unsafe { (&raw mut request).cast::<u8>().add(LEN_AT).cast::<u32>().write_unaligned(PARTS) };
        request
    }

    /// Header, first structure and everything else of the request that the kernel put here.
    ///
    /// # Safety
    /// The kernel has given the entry back, and does not get it again while the result lives.
    pub(super) unsafe fn received(&self) -> (&[u8], &[u8], &[u8]) {
        // SAFETY: both are live allocations of ours, and by the contract nobody writes them now.
        let (head, payload) = unsafe { (&*self.head, &*self.payload) };
        let len = (head.payload_bytes as usize).min(payload.len());
        (&head.in_out, &head.op_in, &payload[..len])
    }

    /// Puts an answer here.
    ///
    /// # Safety
    /// The kernel has given the entry back, and no result of [`Entry::received`] lives.
    pub(super) unsafe fn answer(&mut self, unique: u64, answer: &Answer) {
        // SAFETY: both are live allocations of ours, and by the contract nobody else uses them now.
        let (head, payload) = unsafe { (&mut *self.head, &mut *self.payload) };
        let fits = answer.len() <= payload.len();
        debug_assert!(fits, "an answer is as long as the kernel's buffer at most");
        let errno = if fits { answer.errno } else { libc::EIO };
        let len = if fits { answer.len() } else { 0 };
        let mut out = Vec::with_capacity(OUT_HEADER_BYTES);
        out.put_u32(u32::try_from(OUT_HEADER_BYTES + len).expect("bounded by the payload"));
        out.put_u32((-errno).cast_unsigned());
        out.put_u64(unique);
        head.in_out[..OUT_HEADER_BYTES].copy_from_slice(&out);
        head.payload_bytes = u32::try_from(len).expect("bounded by the payload");
        if fits {
            let (fixed, rest) = payload[..len].split_at_mut(answer.fixed.len());
            fixed.copy_from_slice(&answer.fixed);
            rest.copy_from_slice(&answer.payload);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // SAFETY: made by `Box::into_raw` in `new`; the queue drops an entry only when the kernel has given it back.
        unsafe {
            drop(Box::from_raw(self.head));
            drop(Box::from_raw(self.payload));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_submission_and_an_answer_have_the_kernel_s_layout() {
        let mut entry = Entry::new(4096);
        let request = entry.request(5, 3, COMMIT_AND_FETCH, 0x1234);
        // SAFETY: a submission is 128 plain bytes.
        let bytes = unsafe { std::slice::from_raw_parts((&raw const request).cast::<u8>(), 128) };
        assert_eq!(bytes[0], 46, "IORING_OP_URING_CMD");
        assert_eq!((bytes[4], bytes[8], bytes[24]), (5, 2, 2));
        assert_eq!((bytes[56], bytes[57], bytes[64]), (0x34, 0x12, 3));
        let answer = Answer { fixed: vec![1, 2], payload: vec![3].into(), errno: 0 };
        // SAFETY: no kernel knows this entry.
        unsafe {
            entry.answer(7, &answer);
            let (head, _, payload) = entry.received();
            assert_eq!((head[0], head[4], head[8]), (19, 0, 7));
            assert_eq!(payload, [1, 2, 3]);
            entry.answer(7, &Answer::error(2));
            let (head, _, payload) = entry.received();
            assert_eq!((head[0], head[4], head[5], payload.len()), (16, 0xfe, 0xff, 0));
        }
    }
}
