//! Clients' requests: each reads the topology, is pinned to its epoch, is under way for a while, and
//! is acknowledged or not.
//!
//! What it does to the shards needs no model: the question is whether it may be *acknowledged* so
//! late that somebody who began to copy has not seen it.

use ringway::ids::{Epoch, PoolName};

use crate::process::Operation;
use crate::rules::Rule;
use crate::world::{Event, Step, World, number};

impl World {
    pub fn request(&mut self, at: usize) {
        let wait_us = self.rng.u64(20_000..self.lease_us() / 8);
        self.after(wait_us, Event::At(at, Step::Request));
        let Some((pool, epoch)) = self.rng.choice(self.processes[at].epochs()) else { return };
        let longest_us = if self.chance(10) { 200_000 } else { 2_000 };
        let delay_us = self.rng.u64(0..longest_us);
        self.after(delay_us, Event::At(at, Step::Begin { pool, epoch }));
    }

    pub fn begin(&mut self, at: usize, pool: PoolName, epoch: Epoch) {
        let fields = [("pool", number(pool.as_str())), ("epoch", epoch.0)];
        if let Err(why) = self.may_go_on(at, &pool, epoch) {
            self.tell(Some(at), why, &fields);
            self.count("operation refused");
            return;
        }
        let now_ms = self.now_ms(at);
        let Ok(pin) = self.processes[at].pins.pin(now_ms, &pool, epoch) else {
            self.tell(Some(at), "has reported a later epoch", &fields);
            self.count("stale pin");
            return;
        };
        self.counter += 1;
        let id = self.counter;
        let longest_us = match self.rng.u8(0..20) {
            0..14 => 50_000,
            14..18 => self.lease_us() / 2,
            _ => self.lease_us(),
        };
        let takes_us = self.rng.u64(1_000..longest_us);
        self.processes[at].operations.insert(id, Operation { pool, pin });
        self.after(takes_us, Event::At(at, Step::End(id)));
    }

    pub fn finish(&mut self, at: usize, id: u64) {
        let now_ms = self.now_ms(at);
        let Some(Operation { pool, pin }) = self.processes[at].operations.remove(&id) else {
            return;
        };
        let epoch = pin.epoch();
        let fields = [("pool", number(pool.as_str())), ("epoch", epoch.0), ("id", id)];
        let is_good = self.may_go_on(at, &pool, epoch).is_ok() && pin.is_live(now_ms);
        self.processes[at].pins.release(pin);
        if !is_good && self.rules.keep(Rule::LastLook) {
            self.tell(Some(at), "does not know the outcome", &fields);
            self.count("operation unknown");
            return;
        }
        self.tell(Some(at), "acknowledges", &fields);
        self.count("operation acknowledged");
        let checked = self.acknowledgements.acknowledged(&pool, epoch);
        self.check("acknowledgements", checked);
    }
}
