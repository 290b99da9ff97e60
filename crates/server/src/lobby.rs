//! Connections that have not logged in yet: how many there may be, in all and from one source.
//!
//! They cost memory and a place among the open files and prove nothing about themselves. With too many of them from
//! one source the others still get in.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::network::source_of;

/// Everybody who waits to log in.
#[derive(Debug)]
pub(crate) struct Lobby {
    limits: LobbyLimits,
    guests: Mutex<Guests>,
}

/// How many may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LobbyLimits {
    /// In all.
    pub all: usize,
    /// From one address; from one network of 2⁶⁴ for IPv6.
    pub per_source: usize,
}

#[derive(Debug, Default)]
struct Guests {
    all: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Guest {
    lobby: Arc<Lobby>,
    source: IpAddr,
}

impl Lobby {
    pub(crate) fn new(limits: LobbyLimits) -> Arc<Self> {
        Arc::new(Self { limits, guests: Mutex::default() })
    }

    /// A place for one more, unless there are too many.
    #[rustfmt::skip] // one line: the mutation check removes it
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Guest> {
        let source = source_of(address);
        let mut guests = self.guests.lock();
        let from_there = guests.by_source.get(&source).copied().unwrap_or(0);
        let is_full = guests.all >= self.limits.all || from_there >= self.limits.per_source;
        if is_full { return None; } // mutation: lobby
        guests.all += 1;
        guests.by_source.insert(source, from_there + 1);
        Some(Guest { lobby: self.clone(), source })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut guests = self.lobby.guests.lock();
        guests.all -= 1;
        if let Some(from_there) = guests.by_source.get_mut(&self.source) {
            *from_there -= 1;
            if *from_there == 0 {
                guests.by_source.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_cannot_take_all_places() {
        let lobby = Lobby::new(LobbyLimits { all: 3, per_source: 2 });
        let enter = |address: &str| lobby.enter(address.parse().unwrap());
        let first = enter("2001:db8::1").unwrap();
        let second = enter("2001:db8::2").unwrap();
        assert!(enter("2001:db8::3").is_none(), "the same network");
        let third = enter("192.0.2.1").unwrap();
        assert!(enter("192.0.2.2").is_none(), "all places are taken");
        drop(second);
        assert!(enter("2001:db8::3").is_some());
        drop((first, third));
        let guests = lobby.guests.lock();
        assert_eq!((guests.all, guests.by_source.len()), (0, 0), "nothing is remembered");
    }
}
