//! What do the loops share?

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::metrics::Counts;
use super::passes::Passes;
use super::pool::{HealParts, PoolNow, Seat};
use crate::drivers::http::Address;
use crate::drivers::native::{Fault, Means, Replica};
use crate::ids::{PoolName, ShardId, StoreId, Token};
use crate::net::timers::Timer;
use crate::net::upstream::{Endpoint, UpstreamKey};
use crate::protocol::anti_entropy::Pace;
use crate::protocol::holding::Held;

/// What one replica has of a key, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The shard.
    pub shard: ShardId,
    /// What it has, or why that is not known.
    pub held: Result<Held, String>,
}

/// Which store answers where a shard is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreSeen {
    /// The one that it is bound to.
    Own,
    /// Another one.
    Foreign(StoreId),
}

/// The thread's own things.
pub(super) struct World {
    pub(super) parts: HealParts,
    pub(super) means: Means,
    pub(super) passes: Arc<Passes>,
    pub(super) counts: Arc<Counts>,
    pub(super) rng: RefCell<fastrand::Rng>,
    seats: RefCell<BTreeMap<(PoolName, ShardId), Rc<Seat>>>,
    next_key: Cell<u64>,
    paces: RefCell<BTreeMap<PoolName, (u64, Pace)>>,
    is_current: Cell<bool>,
    /// What is held up, and why, as it was last said.
    held_up: RefCell<BTreeMap<(PoolName, &'static str), String>>,
}

impl World {
    pub(super) fn new(
        parts: HealParts,
        means: Means,
        passes: Arc<Passes>,
        counts: Arc<Counts>,
    ) -> Rc<Self> {
        let rng = RefCell::new(fastrand::Rng::with_seed(parts.seed));
        Rc::new(Self {
            parts,
            means,
            passes,
            counts,
            rng,
            seats: RefCell::default(),
            next_key: Cell::new(0),
            paces: RefCell::default(),
            is_current: Cell::new(false),
            held_up: RefCell::default(),
        })
    }

    /// The pools as they are now.
    pub(super) fn pools(&self) -> Vec<Rc<PoolNow>> {
        let mut served = (self.parts.served)();
        self.is_current.set(served.is_current);
        let pools = std::mem::take(&mut served.pools);
        let now = pools.into_iter().map(|pool| {
            let name = &pool.agreed.name;
            let seats = pool.agreed.shards.iter().map(|shard| self.seat(name, shard)).collect();
            Rc::new(PoolNow::new(pool, &served, seats))
        });
        now.collect()
    }

    /// Whether the pools that were looked at last are all that there are: what is not among them was
    /// dropped. A node that has just started may not have heard of all yet.
    pub(super) fn is_current(&self) -> bool {
        self.is_current.get()
    }

    /// One of them.
    pub(super) fn pool(&self, name: &PoolName) -> Option<Rc<PoolNow>> {
        self.pools().into_iter().find(|pool| pool.name() == name)
    }

    fn seat(&self, pool: &PoolName, shard: &crate::cluster::ShardTopology) -> Rc<Seat> {
        let mut seats = self.seats.borrow_mut();
        let place = (pool.clone(), shard.id.clone());
        if let Some(seat) = seats.get(&place).filter(|seat| seat.url == shard.url) {
            return Rc::clone(seat);
        }
        let key = UpstreamKey(self.next_key.replace(self.next_key.get() + 1));
        let seat = Rc::new(Seat {
            shard: shard.id.clone(),
            url: shard.url.clone(),
            address: Address::of(&shard.url),
            endpoint: Endpoint::of(&shard.url),
            key,
        });
        seats.insert(place, Rc::clone(&seat));
        seat
    }

    /// Forgets where shards were that are no more.
    pub(super) fn forget_seats(&self, pools: &[Rc<PoolNow>]) {
        let mut seats = self.seats.borrow_mut();
        seats.retain(|(pool, shard), _| {
            let found = pools.iter().find(|now| now.name() == pool);
            found.is_some_and(|now| now.shard(shard).is_some())
        });
    }

    /// A timer for one task.
    pub(super) fn timer(&self) -> Timer {
        self.means.timers.register()
    }

    /// Microseconds since the process began, now.
    pub(super) fn now_us(&self) -> u64 {
        self.means.timers.refresh()
    }

    /// Asks one replica what it has of a key.
    pub(super) async fn head(
        &self,
        replica: &Replica<'_>,
        key: &str,
        token: Token,
    ) -> Result<crate::drivers::native::Held, Fault> {
        replica.head(&self.means, &self.timer(), (key.as_bytes(), token)).await
    }

    /// Asks all replicas of a key what they have, at once. In the order of
    /// [`PoolNow::replicas`]. Nothing is said of one that is not bound.
    pub(super) async fn look(
        self: &Rc<Self>,
        pool: &Rc<PoolNow>,
        key: &str,
        token: Token,
    ) -> Vec<(usize, Result<Held, String>)> {
        let shards = pool.replicas(token);
        let mut asked = JoinSet::new();
        let mut found: Vec<_> =
            shards.iter().map(|shard| (*shard, Err("no store is bound yet".to_owned()))).collect();
        for (at, shard) in shards.into_iter().enumerate() {
            if pool.agreed.shards[shard].store.is_none() {
                continue;
            }
            let (world, pool, key) = (Rc::clone(self), Rc::clone(pool), key.to_owned());
            asked.spawn_local(async move {
                let replica = pool.replica(shard).expect("looked at above");
                let begun_us = world.now_us();
                let held = world.head(&replica, &key, token).await;
                world.answered(&pool, begun_us);
                (at, held.map(|held| held_of(&held)).map_err(|fault| fault.to_string()))
            });
        }
        while let Some(joined) = asked.join_next().await {
            if let Ok((at, held)) = joined {
                found[at].1 = held;
            }
        }
        found
    }

    /// Notes how long a store took for a small request.
    pub(super) fn answered(&self, pool: &PoolNow, begun_us: u64) {
        let now_us = self.now_us();
        self.with_pace(pool, |pace| pace.answered(now_us, now_us.saturating_sub(begun_us)));
    }

    /// Spends bytes, and waits until the next may be spent.
    pub(super) async fn pay(&self, pool: &PoolNow, bytes: u64) {
        /// Sleeping is not exact to less than that.
        const WORTH_US: u64 = 2_000;
        let now_us = self.now_us();
        let wait_us = self.with_pace(pool, |pace| pace.spend(now_us, bytes));
        if wait_us >= WORTH_US {
            tokio::time::sleep(Duration::from_micros(wait_us)).await;
        }
    }

    fn with_pace<T>(&self, pool: &PoolNow, act: impl FnOnce(&mut Pace) -> T) -> T {
        let limit = pool.settings.repair_bytes_per_second_max;
        let mut paces = self.paces.borrow_mut();
        let entry = paces.entry(pool.name().clone()).or_insert_with(|| (limit, Pace::new(limit)));
        if entry.0 != limit {
            *entry = (limit, Pace::new(limit));
        }
        act(&mut entry.1)
    }

    /// Says why something is held up, once for as long as it is for the same reason; and that it goes
    /// on.
    pub(super) fn held_up(&self, pool: &PoolName, what: &'static str, why: Option<String>) {
        let mut held_up = self.held_up.borrow_mut();
        let place = (pool.clone(), what);
        match why {
            None => {
                if held_up.remove(&place).is_some() {
                    tracing::info!(%pool, "{what} goes on");
                }
            }
            Some(why) => {
                if held_up.get(&place) != Some(&why) {
                    tracing::warn!(%pool, "{what} is held up: {why}");
                    held_up.insert(place, why);
                }
            }
        }
    }

    /// The wall clock.
    pub(super) fn unix_ms(&self) -> u64 {
        (self.parts.unix_ms)()
    }
}

/// What the driver was told, as the rules know it.
pub(super) fn held_of(held: &crate::drivers::native::Held) -> Held {
    use crate::drivers::native::Held as Told;
    match held {
        Told::Value(value) => Held::Value(value.version),
        Told::Damaged(version) => Held::Damaged(*version),
        Told::Tombstone(version) => Held::Tombstone(*version),
        Told::Absent(version) => Held::Absent { watermark: *version },
    }
}
