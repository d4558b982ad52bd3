//! The hand-over: a new process takes the place of this one, and no client notices.
//!
//! ```text
//! old: SIGQUIT ─▶ starts the program anew ─▶ sends it the sockets ─▶ waits ─▶ stops accepting, finishes, ends
//! new:                     └▶ reads its configuration ─▶ takes the sockets ─▶ accepts, says so ─┘
//! ```
//! The old process starts the new one itself, from the path and with the arguments that it was started with: whatever is
//! installed there now. The two talk over a pair of Unix sockets, of which the new one has its end as standard input; both
//! accept from the same listening sockets until the old one has heard that the new one does. So there is no moment
//! without anybody who accepts, and no connection is refused. Whatever keeps the new one from accepting (a bad
//! configuration, a program that does not run, silence) ends it, and the old one goes on as if nothing had been.

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::app::sockets::{Bound, Inherited};

/// The argument that tells the new process what its standard input is.
pub(super) const TAKE_OVER: &str = "--take-over";

/// How long the new process may take until it accepts.
const PATIENCE: Duration = Duration::from_secs(30);

/// Most sockets that are handed over: as many as Linux sends at once (`SCM_MAX_FD`).
const MAX_SOCKETS: usize = 253;

/// Most bytes of the list of their addresses.
const MAX_LIST_BYTES: usize = 64 << 10;

/// What the new process says when it accepts.
const READY: &[u8] = b"ready\n";

/// Why the old process goes on.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotHandedOver {
    /// The program cannot be started.
    #[error("{program:?} cannot be started: {source}")]
    Start {
        /// Its path, as this process was started with.
        program: OsString,
        /// Why.
        source: io::Error,
    },
    /// The new process ended.
    #[error("the new process ended before it accepted: {0}")]
    Ended(std::process::ExitStatus),
    /// The new process did not accept in time.
    #[error("the new process did not accept within {PATIENCE:?}")]
    Silent,
    /// The two could not talk.
    #[error("the new process cannot be talked to: {0}")]
    Talk(#[from] io::Error),
}

/// Why the new process cannot take over.
#[derive(Debug, thiserror::Error)]
#[error("{TAKE_OVER} is what a vms-edge starts its successor with: {0}")]
pub(super) struct NotTakenOver(io::Error);

/// The new process's end of the talk.
#[derive(Debug)]
pub(super) struct Predecessor(UnixStream);

/// Starts the program anew and hands it `sockets`; returns its process id once it accepts from them.
///
/// # Errors
///
/// Why there is no new process. Then this one has nothing to do but go on.
pub(super) fn hand_over(sockets: &[Bound]) -> Result<u32, NotHandedOver> {
    let (mut ours, theirs) = UnixStream::pair()?;
    ours.set_read_timeout(Some(PATIENCE))?;
    let mut arguments = std::env::args_os();
    let program = arguments.next().unwrap_or_default();
    let arguments = arguments.filter(|argument| argument != TAKE_OVER);
    let mut successor = Command::new(&program)
        .args(arguments)
        .arg(TAKE_OVER)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        // These name sockets that were passed to this process.
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_FDNAMES")
        .env_remove("LISTEN_PID")
        .spawn()
        .map_err(|source| NotHandedOver::Start { program, source })?;
    let accepts = send(&ours, sockets).and_then(|()| hear_ready(&mut ours));
    match accepts {
        Ok(true) => Ok(successor.id()),
        // Its end is closed, and so, as far as it can be told, is the process.
        Ok(false) => Err(NotHandedOver::Ended(end(&mut successor)?)),
        Err(error) => {
            let status = end(&mut successor)?;
            Err(match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => NotHandedOver::Silent,
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                    NotHandedOver::Ended(status)
                }
                _ => NotHandedOver::Talk(error),
            })
        }
    }
}

/// Makes sure that a process which is of no use does not accept after all.
fn end(process: &mut Child) -> io::Result<std::process::ExitStatus> {
    if let Some(status) = process.try_wait()? {
        return Ok(status);
    }
    // It has closed its end, or is not to be waited for: either way it is about to end, or has to.
    process.kill()?;
    process.wait()
}

fn send(to: &UnixStream, sockets: &[Bound]) -> io::Result<()> {
    let list: Vec<SocketAddr> = sockets.iter().map(|bound| bound.configured).collect();
    let list = serde_json::to_vec(&list)?;
    let descriptors: Vec<_> = sockets.iter().map(|bound| bound.socket.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if list.len() > MAX_LIST_BYTES || !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors))
    {
        return Err(io::Error::other("there are too many sockets"));
    }
    let sent = sendmsg(
        to,
        &[IoSlice::new(&list)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    // The descriptors went with the first byte; what did not fit with them follows.
    (&mut &*to).write_all(&list[sent..])?;
    (&mut &*to).write_all(b"\n")
}

/// Whether the other end says that it accepts, before it closes.
fn hear_ready(from: &mut UnixStream) -> io::Result<bool> {
    let mut said = Vec::new();
    let mut some = [0; READY.len()];
    while said.len() < READY.len() {
        match from.read(&mut some)? {
            0 => return Ok(false),
            count => said.extend_from_slice(&some[..count]),
        }
    }
    Ok(said == READY)
}

impl Predecessor {
    /// Takes the sockets of the process that started this one.
    ///
    /// # Errors
    ///
    /// When there is none: somebody gave the argument by hand.
    pub(super) fn take_over() -> Result<(Self, Inherited), NotTakenOver> {
        let stdin = io::stdin();
        let theirs = stdin.as_fd().try_clone_to_owned().map_err(NotTakenOver)?;
        let mut stream = UnixStream::from(theirs);
        let sockets = receive(&mut stream).map_err(NotTakenOver)?;
        Ok((Self(stream), Inherited::new(sockets)))
    }

    /// Tells it that this process accepts: from now on it is on its way out.
    ///
    /// # Errors
    ///
    /// When it has ended meanwhile, which is not this one's concern.
    pub(super) fn succeed(mut self) -> io::Result<()> {
        self.0.write_all(READY)
    }
}

fn receive(from: &mut UnixStream) -> io::Result<Vec<Bound>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut list = vec![0; MAX_LIST_BYTES + 1];
    let received = recvmsg(
        &*from,
        &mut [IoSliceMut::new(&mut list)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other("not all sockets arrived"));
    }
    list.truncate(received.bytes);
    let descriptors: Vec<OwnedFd> = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    while list.last() != Some(&b'\n') {
        let mut more = [0; 4096];
        match from.read(&mut more)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => list.extend_from_slice(&more[..count]),
        }
        if list.len() > MAX_LIST_BYTES + 1 {
            return Err(io::Error::other("the list of sockets has no end"));
        }
    }
    let list: Vec<SocketAddr> = serde_json::from_slice(&list)?;
    if list.len() != descriptors.len() {
        return Err(io::Error::other("not all sockets arrived"));
    }
    let bound = |(configured, descriptor)| Bound {
        configured,
        socket: TcpListener::from(descriptor),
    };
    Ok(list.into_iter().zip(descriptors).map(bound).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound() -> Bound {
        Bound {
            configured: "127.0.0.1:0".parse().unwrap(),
            socket: TcpListener::bind("127.0.0.1:0").unwrap(),
        }
    }

    #[test]
    fn sockets_arrive_with_the_addresses_that_the_configuration_gives_them() {
        let (old, mut new) = UnixStream::pair().unwrap();
        let sockets = [bound(), bound(), bound()];
        send(&old, &sockets).unwrap();
        let received = receive(&mut new).unwrap();
        let addresses = |sockets: &[Bound]| {
            let both = |bound: &Bound| (bound.configured, bound.address());
            sockets.iter().map(both).collect::<Vec<_>>()
        };
        assert_eq!(addresses(&received), addresses(&sockets));
        // They accept, also when the old process has closed its own.
        let address = sockets[1].address();
        drop(sockets);
        let client = std::net::TcpStream::connect(address).unwrap();
        let (_, peer) = received[1].socket.accept().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
    }

    #[test]
    fn what_is_no_list_of_sockets_is_not_taken_for_one() {
        for said in ["\n", "[\"127.0.0.1:0\"]\n", "{}\n", "["] {
            let (mut old, mut new) = UnixStream::pair().unwrap();
            old.write_all(said.as_bytes()).unwrap();
            drop(old);
            assert!(receive(&mut new).is_err(), "{said:?}");
        }
    }

    #[test]
    fn only_the_one_word_means_that_the_new_process_accepts() {
        for (said, means) in [
            (&b"ready\n"[..], true),
            (b"", false),
            (b"rea", false),
            (b"READY\n", false),
        ] {
            let (mut old, mut new) = UnixStream::pair().unwrap();
            new.write_all(said).unwrap();
            drop(new);
            assert_eq!(hear_ready(&mut old).unwrap(), means);
        }
    }
}
