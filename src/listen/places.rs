//! How many connections there may be: of all clients, and of one address.
//!
//! Connections are counted whether there is a limit or not, so that a limit that a reload brings counts those that there
//! were before. Nothing here waits: the lock is held for as long as a look into a map takes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::config::Limits;
use crate::request::peer::client_network;

/// The places that there are, and who has them.
#[derive(Default)]
pub(super) struct Places {
    taken: AtomicUsize,
    by_network: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection's place; it is free again when this is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    network: Option<IpAddr>,
}

/// There is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// All are taken.
    Total,
    /// The client's address has all that one address may have.
    Address,
    /// The client's address has come more often than one address may.
    Pace,
}

impl Places {
    /// A place for a connection of anybody.
    pub(super) fn take(self: &Arc<Self>, limits: &Limits) -> Result<Place, Full> {
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        // From here on dropping it gives it back.
        let place = Place {
            places: Arc::clone(self),
            network: None,
        };
        match limits.connections {
            0 => Ok(place),
            most if before < most => Ok(place),
            _ => Err(Full::Total),
        }
    }
}

impl Place {
    /// Says whose it is.
    pub(super) fn belongs_to(&mut self, address: IpAddr, limits: &Limits) -> Result<(), Full> {
        debug_assert!(self.network.is_none(), "a connection has one client");
        let network = client_network(address);
        let mut by_network = self.places.by_network.lock();
        let taken = by_network.entry(network).or_default();
        if limits.address_connections != 0 && *taken >= limits.address_connections {
            return Err(Full::Address);
        }
        *taken += 1;
        self.network = Some(network);
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.fetch_sub(1, Ordering::Relaxed);
        let Some(network) = self.network else {
            return;
        };
        if let Entry::Occupied(mut taken) = self.places.by_network.lock().entry(network) {
            match taken.get() {
                0 | 1 => drop(taken.remove()),
                _ => *taken.get_mut() -= 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Rate, Rates};

    fn limits(connections: usize, address_connections: usize) -> Limits {
        Limits {
            connections,
            address_connections,
            connecting: Rate::default(),
            header_timeout: Duration::from_secs(10),
            body_timeout: None,
            rates: Rates::default(),
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_place_is_free_again_when_its_connection_ends() {
        let places = Arc::new(Places::default());
        let two = limits(2, 0);
        let first = places.take(&two).ok().unwrap();
        let _second = places.take(&two).ok().unwrap();
        assert_eq!(places.take(&two).err(), Some(Full::Total));
        drop(first);
        assert!(places.take(&two).is_ok());
    }

    #[test]
    fn an_address_has_its_own_places_and_leaves_nothing_behind() {
        let places = Arc::new(Places::default());
        let one_each = limits(0, 1);
        let mut ann = places.take(&one_each).ok().unwrap();
        let mut again = places.take(&one_each).ok().unwrap();
        let mut bob = places.take(&one_each).ok().unwrap();
        assert_eq!(ann.belongs_to(address("10.0.0.1"), &one_each), Ok(()));
        assert_eq!(
            again.belongs_to(address("::ffff:10.0.0.1"), &one_each),
            Err(Full::Address)
        );
        assert_eq!(bob.belongs_to(address("10.0.0.2"), &one_each), Ok(()));
        drop((ann, again, bob));
        assert!(places.by_network.lock().is_empty());
        assert_eq!(places.taken.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn connections_from_before_a_limit_count() {
        let places = Arc::new(Places::default());
        let _open = places.take(&limits(0, 0)).ok().unwrap();
        assert_eq!(places.take(&limits(1, 0)).err(), Some(Full::Total));
    }
}
