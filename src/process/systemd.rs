//! Whoever manages the process as a service, where there is one: systemd, by its own protocols (`sd_notify(3)`,
//! `sd_listen_fds(3)`). Without it nothing here does anything.

use std::net::SocketAddr;
use std::os::fd::AsFd;

use listenfd::ListenFd;
use sd_notify::NotifyState;

use crate::app::sockets::{Bound, Inherited};

/// Sockets that the manager has passed and that are `wanted`: those of a `.socket` unit, or those it kept while the service
/// was restarted. It is to let go of the others, which would take in connections that nobody accepts.
///
/// They are told apart by where they listen.
pub(super) fn sockets(wanted: &[SocketAddr]) -> Inherited {
    let mut passed = ListenFd::from_env();
    let (mut sockets, mut unwanted) = (Vec::new(), Vec::new());
    for place in 0..passed.len() {
        match passed.take_tcp_listener(place) {
            Ok(Some(socket)) => match socket.local_addr() {
                Ok(configured) if wanted.contains(&configured) => {
                    sockets.push(Bound { configured, socket });
                }
                Ok(address) => unwanted.push(address),
                Err(error) => tracing::warn!(place, %error, "a passed socket has no address"),
            },
            Ok(None) => {}
            Err(error) => tracing::warn!(place, %error, "a passed descriptor is no TCP socket"),
        }
    }
    for address in &unwanted {
        tracing::info!(%address, "a passed socket is not listened on any more");
        tell(&[
            NotifyState::FdStoreRemove,
            NotifyState::FdName(&stored_name(*address)),
        ]);
    }
    match unwanted.is_empty() {
        true => Inherited::new(sockets),
        false => Inherited::soon_alone(sockets),
    }
}

/// What a socket is called that the manager keeps while the service is restarted. A colon would end the name.
fn stored_name(address: SocketAddr) -> String {
    format!("listen-{address}").replace(':', "-")
}

/// The process serves.
pub(super) fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
}

/// The manager is to keep these sockets, so that nobody is refused while the service is restarted.
pub(super) fn keep(sockets: &[Bound]) {
    for bound in sockets {
        let name = stored_name(bound.address());
        let states = [NotifyState::FdStore, NotifyState::FdName(&name)];
        let descriptors = [bound.socket.as_fd()];
        if let Err(error) = sd_notify::notify_with_fds(&states, &descriptors) {
            tracing::debug!(%error, "the service manager does not keep a socket");
        }
    }
}

/// The configuration is being read again; [`ready`] follows.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the service manager is not told of a reload"),
    }
}

/// A successor is being started; [`succeeded_by`] or [`not_succeeded`] follows.
pub(super) fn starting_successor() {
    tell(&[NotifyState::Status("starting a successor")]);
}

/// There is no successor, and the process serves on. Whoever upgrades reads it where he reads that the service runs.
pub(super) fn not_succeeded() {
    tell(&[NotifyState::Status("serving; not handed over")]);
}

/// Another process is the service's main one from now on.
pub(super) fn succeeded_by(process: u32) {
    tell(&[NotifyState::MainPid(process)]);
}

/// The service ends.
pub(super) fn stopping() {
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status("finishing what is in flight"),
    ]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}
