//! What a bad day does to stores, proxies and the wires between them, one thing after the other.

use std::sync::PoisonError;
use std::time::Duration;

use rustix::process::Signal;

use super::world::World;
use crate::links::Weather;
use crate::support::wait::all_the_while;

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// kill -9, and started again a little later.
    StoreKilled,
    /// Two at once: nothing can be written meanwhile.
    TwoStoresKilled,
    /// Stopped where it stands, and let go on.
    StoreStopped,
    /// kill -9, and started again.
    ProxyKilled,
    /// Stopped for longer than its lease lasts, and let go on in the middle of what it did.
    ProxyStopped,
    /// Reached by no other proxy, for longer than its lease lasts.
    ProxyCutOff,
    /// All that proxies say to each other is late, and some of it lost.
    Slow,
}

impl Fault {
    /// What there is. The last two need wires that can be cut.
    pub const ALL: [Fault; 7] = [
        Fault::StoreKilled,
        Fault::ProxyStopped,
        Fault::StoreStopped,
        Fault::TwoStoresKilled,
        Fault::ProxyKilled,
        Fault::ProxyCutOff,
        Fault::Slow,
    ];

    fn needs_wires(self) -> bool {
        matches!(self, Fault::ProxyCutOff | Fault::Slow)
    }
}

/// Longer than a lease of this world, with its margin.
const BEYOND_A_LEASE: Duration = Duration::from_millis(5500);

/// Lets one fault happen from its beginning to its end.
pub fn strike(world: &mut World, fault: Fault, rng: &mut fastrand::Rng) {
    if fault.needs_wires() && world.cluster.links.is_none() {
        return;
    }
    let store = rng.usize(0..world.stores.len());
    let proxy = rng.usize(0..world.cluster.members.len());
    let a_while = Duration::from_millis(rng.u64(300..1500));
    match fault {
        Fault::StoreKilled => {
            signal(world, store, Signal::KILL);
            pause(a_while);
            start_again(world, store);
        }
        Fault::TwoStoresKilled => {
            let other = (store + 1) % world.stores.len();
            signal(world, store, Signal::KILL);
            signal(world, other, Signal::KILL);
            pause(a_while);
            start_again(world, store);
            pause(a_while);
            start_again(world, other);
        }
        Fault::StoreStopped => {
            signal(world, store, Signal::STOP);
            pause(2 * a_while);
            signal(world, store, Signal::CONT);
        }
        Fault::ProxyKilled => {
            world.cluster.members[proxy].kill_9();
            pause(a_while);
            world.cluster.start_member(proxy);
        }
        Fault::ProxyStopped => {
            world.cluster.members[proxy].freeze();
            pause(BEYOND_A_LEASE);
            world.cluster.members[proxy].wake();
        }
        Fault::ProxyCutOff => {
            world.cluster.links().isolate(proxy);
            pause(BEYOND_A_LEASE);
            world.cluster.links().mend();
        }
        Fault::Slow => {
            let weather = Weather::Slow { least_ms: 20, most_ms: 120, loss_percent: 5 };
            world.cluster.links().everywhere(weather);
            pause(2 * a_while);
            world.cluster.links().mend();
        }
    }
}

fn signal(world: &World, store: usize, signal: Signal) {
    world.stores[store].lock().unwrap_or_else(PoisonError::into_inner).process.signal(signal);
}

fn start_again(world: &World, store: usize) {
    world.stores[store].lock().unwrap_or_else(PoisonError::into_inner).start_again();
}

/// How long all is well between two faults.
pub const REST: Duration = Duration::from_millis(800);

/// How long a fault lasts; nothing is waited for.
pub fn pause(long: Duration) {
    all_the_while(long, || {});
}
