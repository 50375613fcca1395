//! Attaching a classic BPF program that picks the socket of a group bound with `SO_REUSEPORT`.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use super::check;
use crate::net::FilterInstruction;

/// Lets `program` choose among all sockets that share the address of `socket`.
pub(crate) fn attach(socket: impl AsFd, program: &[FilterInstruction]) -> io::Result<()> {
    let mut filter: Vec<libc::sock_filter> = program
        .iter()
        .map(|instruction| libc::sock_filter {
            code: instruction.code,
            jt: instruction.jump_true,
            jf: instruction.jump_false,
            k: instruction.operand,
        })
        .collect();
    let len = u16::try_from(filter.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel reads one `sock_fprog` and copies the `len` instructions that it points to, which live until here.
    let returned = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    check(returned)?;
    Ok(())
}
