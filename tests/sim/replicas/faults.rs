//! What goes wrong.

use super::world::{Event, STRICT_KEYS, World};

impl World {
    pub fn fault(&mut self) {
        if self.is_healed || self.is_calm {
            return;
        }
        let wait_us = self.rng.u64(50_000..700_000);
        self.after(wait_us, Event::Fault);
        let (proxy, store) =
            (self.rng.usize(0..self.proxies.len()), self.rng.usize(0..self.stores.len()));
        match self.rng.u8(0..100) {
            0..25 => {
                let for_us = self.rng.u64(10_000..1_500_000);
                self.kill_store(store, for_us);
            }
            25..40 => {
                let for_us = self.rng.u64(10_000..1_500_000);
                let until_us = self.now_us + for_us;
                self.stores[store].stopped_until_us = until_us;
                self.tell(store, "store is stopped", &[("for_us", for_us)]);
            }
            40..43 => self.replace_store(store),
            43..45 => self.rot(store),
            45..65 => {
                let for_us = self.rng.u64(10_000..3_000_000);
                self.proxies[proxy].stopped_until_us = self.now_us + for_us;
                self.tell(proxy, "proxy is stopped", &[("for_us", for_us)]);
                self.count("proxy stopped");
            }
            65..75 => self.kill_proxy(proxy),
            75..90 => self.divide(),
            _ => {
                let off_by_ms = self.rng.i64(-120..=120);
                self.proxies[proxy].clock.wall_off_by_ms = off_by_ms;
                self.tell(proxy, "clock is set", &[("by_ms", off_by_ms.unsigned_abs())]);
            }
        }
    }

    /// Kills a store, which starts again so much later.
    pub fn kill_store(&mut self, at: usize, for_us: u64) {
        if !self.stores[at].is_up {
            return;
        }
        self.stores[at].kill();
        self.tell(at, "store is killed", &[]);
        self.count("store killed");
        let checked = self.visible.check(&self.stores, self.group.view.fresh);
        self.check("visible", checked);
        self.after(for_us, Event::StartStore(at));
    }

    /// A store is lost for good, and a fresh one takes its place; one at a time.
    fn replace_store(&mut self, at: usize) {
        if self.group.view.fresh.is_some() {
            return;
        }
        self.stores[at].replace();
        self.group.replaced(at);
        self.filled.clear();
        self.tell(at, "store is replaced", &[]);
        self.count("replaced");
    }

    /// A store loses the bytes of a value; perhaps the last that there are of it.
    fn rot(&mut self, at: usize) {
        let key = self.rng.u8(0..=STRICT_KEYS);
        let held = self.stores[at].disk.held(key);
        if !self.stores[at].has_bytes(key) {
            return;
        }
        self.stores[at].rot(key);
        // What was written at once rots at once, now and then.
        for other in (0..self.stores.len()).filter(|other| *other != at) {
            let store = &self.stores[other];
            if store.has_bytes(key) && store.disk.held(key) == held && self.rng.bool() {
                self.stores[other].rot(key);
                self.tell(other, "bytes are lost", &[("key", u64::from(key))]);
            }
        }
        self.tell(at, "bytes are lost", &[("key", u64::from(key))]);
        self.count("damaged");
    }

    pub fn start_store(&mut self, at: usize) {
        self.stores[at].is_up = true;
        self.tell(at, "store starts", &[]);
    }

    fn kill_proxy(&mut self, at: usize) {
        if !self.proxies[at].is_up {
            return;
        }
        self.proxies[at].kill();
        self.tell(at, "proxy is killed", &[]);
        self.count("proxy killed");
        let wait_us = self.rng.u64(10_000..1_000_000);
        self.after(wait_us, Event::StartProxy(at));
    }

    pub fn start_proxy(&mut self, at: usize) {
        self.proxies[at].is_up = true;
        self.tell(at, "proxy starts", &[]);
    }

    fn divide(&mut self) {
        for at in 0..self.stores.len() {
            self.stores[at].side = self.rng.u8(0..2);
        }
        for at in 0..self.proxies.len() {
            self.proxies[at].side = self.rng.u8(0..2);
        }
        self.tell(0, "the network is divided", &[]);
        self.count("division");
        let for_us = self.rng.u64(50_000..1_200_000);
        self.after(for_us, Event::Join);
    }

    pub fn join(&mut self) {
        self.stores.iter_mut().for_each(|store| store.side = 0);
        self.proxies.iter_mut().for_each(|proxy| proxy.side = 0);
    }

    pub fn heal(&mut self) {
        self.is_healed = true;
        self.tell(0, "is healed", &[]);
        self.join();
        for store in &mut self.stores {
            store.is_up = true;
            store.stopped_until_us = 0;
        }
        for proxy in &mut self.proxies {
            proxy.is_up = true;
            proxy.stopped_until_us = 0;
            proxy.clock.wall_off_by_ms = 0;
        }
    }
}
