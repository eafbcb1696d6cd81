//! The runner of what goes on without clients: hints are replayed, replicas compared, tombstones
//! collected.

use ringway::level::Level;
use ringway::protocol::anti_entropy::mend;
use ringway::protocol::hint::{Replay, replay};
use ringway::protocol::holding::Held;
use ringway::protocol::quorum::Set;
use ringway::protocol::read::Record;
use ringway::protocol::tombstone::{Facts, Listed, Slot, collectable};
use ringway::version::Version;

use super::proxy::{Head, Operation, Task};
use super::rules::Rule;
use super::store::{Key, Listing, Reply, Request};
use super::world::{Event, STRICT_KEYS, World};

/// `tombstone_min_age`: above what two wall clocks are apart.
const AGE_MS_MIN: u64 = 300;

/// What the replicas hold of one key, for a hint or to compare them.
#[derive(Debug)]
pub struct Survey {
    held: Vec<Option<Held>>,
    /// The hint that is replayed: for whom, and of which version.
    hint: Option<(usize, Version)>,
    is_done: bool,
}

/// A collection of tombstones.
#[derive(Debug)]
pub struct Collection {
    told: Set,
    listed: Vec<Option<Listing>>,
    begun_unix_ms: u64,
    is_done: bool,
}

impl World {
    pub fn hint(&mut self, at: usize, replica: usize, key: Key, version: Version) {
        let noted = self.proxies[at].hints.entry((replica, key)).or_default();
        *noted = (*noted).max(version);
        self.count("hint");
    }

    pub fn upkeep(&mut self, at: usize) {
        let wait_us = if self.is_healed { 30_000 } else { self.rng.u64(20_000..200_000) };
        self.after(wait_us, Event::Upkeep(at));
        let proxy = &self.proxies[at];
        if !proxy.is_up || proxy.clock.boot_ms(self.now_us) >= proxy.lease_until_ms {
            return;
        }
        let hint = proxy
            .hints
            .first_key_value()
            .map(|((replica, key), version)| (*replica, *key, *version));
        if let Some(fresh) = self.proxies[at].view.fresh {
            self.fill(at, fresh);
        }
        let proxy = &self.proxies[at];
        match self.rng.u8(0..10) {
            0..4 => {
                let Some((replica, key, version)) = hint else { return };
                self.survey(at, key, Some((replica, version)));
            }
            4..7 => {
                let key = self.rng.u8(0..=STRICT_KEYS);
                self.survey(at, key, None);
            }
            7..9 if self.group.barrier < self.group.epoch => self.group.look(self.now_us),
            7..9 if proxy.epoch == self.group.barrier && self.now_us >= self.collects_at_us => {
                self.collect(at);
            }
            9 if self.rng.u8(0..6) == 0 => self.next_epoch(at),
            _ => {}
        }
    }

    /// Compares a few of the keys that the fresh store was not seen to have.
    fn fill(&mut self, at: usize, fresh: usize) {
        if self.group.view.fresh != Some(fresh) {
            return;
        }
        let left: Vec<Key> = (0..=STRICT_KEYS).filter(|key| !self.filled.contains(key)).collect();
        if left.is_empty() {
            self.group.filled();
            self.count("filled");
        }
        left.into_iter().take(6).for_each(|key| self.survey(at, key, None));
    }

    fn survey(&mut self, at: usize, key: Key, hint: Option<(usize, Version)>) {
        let head = self.head(at, key, Level::Quorum);
        let held = vec![None; self.stores.len()];
        let task = Task::Survey(Survey { held, hint, is_done: false });
        let number = self.start(at, Operation { head: head.clone(), task });
        self.ask(at, number, &head, Set::first(self.stores.len()), &Request::Ask);
    }

    fn collect(&mut self, at: usize) {
        let head = self.head(at, 0, Level::Quorum);
        let collection = Collection {
            told: Set::EMPTY,
            listed: vec![None; self.stores.len()],
            begun_unix_ms: self.group.begun_unix_ms,
            is_done: false,
        };
        let task = Task::Collect(collection);
        let number = self.start(at, Operation { head: head.clone(), task });
        self.ask(at, number, &head, Set::first(self.stores.len()), &Request::Tell);
    }

    /// A store has answered a survey or a collection.
    pub fn heard(&mut self, at: usize, number: u64, store: usize, reply: Reply) {
        let Some(mut operation) = self.proxies[at].operations.remove(&number) else { return };
        let head = operation.head.clone();
        let every = Set::first(self.stores.len());
        match (&mut operation.task, reply) {
            (Task::Survey(survey), Reply::Held(held)) if !survey.is_done => {
                survey.held[store] = Some(held);
                if survey.held.iter().all(Option::is_some) {
                    survey.is_done = true;
                    let settled = self.act_on(at, number, &head, survey);
                    self.settle(at, settled);
                }
            }
            (Task::Survey(survey), Reply::Committed { newest, .. }) => {
                let settled =
                    survey.hint.filter(|(target, version)| *target == store && newest >= *version);
                self.settle(at, settled.map(|(target, version)| (target, head.key, version)));
            }
            (Task::Collect(collection), Reply::Told) => {
                collection.told.insert(store);
                // Each is listed when all were told: what is older is refused from then on.
                let is_hasty = !self.rules.keep(Rule::TombstonesEverywhere);
                if collection.told == every || is_hasty {
                    self.ask(at, number, &head, every, &Request::List);
                }
            }
            (Task::Collect(collection), Reply::Listed(listing)) => {
                collection.listed[store] = Some(listing);
                self.raise(at, number, &head, collection);
            }
            _ => {}
        }
        self.proxies[at].operations.insert(number, operation);
    }

    /// Its time is over: a survey does with what it has.
    pub fn survey_ends(&mut self, at: usize, number: u64) {
        let Some(mut operation) = self.proxies[at].operations.remove(&number) else { return };
        let head = operation.head.clone();
        if let Task::Survey(survey) = &mut operation.task
            && !survey.is_done
        {
            survey.is_done = true;
            let settled = self.act_on(at, number, &head, survey);
            self.settle(at, settled);
        }
    }

    fn settle(&mut self, at: usize, settled: Option<(usize, Key, Version)>) {
        let Some((replica, key, version)) = settled else { return };
        let hints = &mut self.proxies[at].hints;
        if hints.get(&(replica, key)).is_some_and(|noted| *noted <= version) {
            hints.remove(&(replica, key));
            self.count("hint settled");
        }
    }

    /// Brings what is lacking. Returns a hint that needs nothing more.
    fn act_on(
        &mut self,
        at: usize,
        number: u64,
        head: &Head,
        survey: &Survey,
    ) -> Option<(usize, Key, Version)> {
        let Some((target, version)) = survey.hint else {
            self.look_whether_filled(head, survey);
            if let Some(mend) = mend(&survey.held) {
                if !mend.to.is_empty() {
                    self.count("mended");
                }
                if !mend.is_lost {
                    let to = mend.to.into_iter().collect();
                    self.ask(at, number, head, to, &Request::Bring(mend.newest));
                    return None;
                }
                if !self.rules.keep(Rule::LossesAreTold) {
                    return None;
                }
                let told = mend.told(&survey.held, |at| head.view.fresh == Some(at));
                if let Some((version, _, to)) = told.rescued {
                    self.count("rescued before a loss is told");
                    let record = Record { version, is_tombstone: false };
                    self.ask(at, number, head, to.into_iter().collect(), &Request::Bring(record));
                }
                let to: Set = told.to.into_iter().collect();
                self.count(if to.is_empty() { "lost" } else { "told of a loss" });
                self.ask(at, number, head, to, &Request::Lost(mend.newest.version));
            }
            return None;
        };
        let others: Vec<(usize, Option<Held>)> =
            survey.held.iter().copied().enumerate().filter(|(at, _)| *at != target).collect();
        match replay(version, survey.held[target], &others) {
            Replay::Settled | Replay::Nowhere => Some((target, head.key, version)),
            Replay::Wait => None,
            Replay::Copy { record, .. } => {
                self.count("replayed");
                self.ask(at, number, head, Set::only(target), &Request::Bring(record));
                None
            }
        }
    }

    /// Whether the fresh store has of a key what all others have.
    fn look_whether_filled(&mut self, head: &Head, survey: &Survey) {
        let view = &self.group.view;
        let Some(fresh) = view.fresh.filter(|_| head.view.identities == view.identities) else {
            return;
        };
        let held: Option<Vec<Held>> = survey.held.iter().copied().collect();
        let Some(held) = held else { return };
        // Of what is lost, to know of it is all that can be.
        let knows = |record| held[fresh].covers(record) || held[fresh].record() == Some(record);
        let counts = |held: &Held| match self.rules.keep(Rule::LossesAreTold) {
            true => held.record(),
            false => held.whole(),
        };
        if held.iter().filter_map(counts).all(knows) {
            self.filled.insert(head.key);
        }
    }

    fn raise(&mut self, at: usize, number: u64, head: &Head, collection: &mut Collection) {
        let is_hasty = !self.rules.keep(Rule::TombstonesEverywhere);
        if collection.is_done || (!is_hasty && collection.listed.iter().any(Option::is_none)) {
            return;
        }
        let names: Vec<String> = (0..=STRICT_KEYS).map(|key| key.to_string()).collect();
        let seen = collection.listed.iter().flatten().next().cloned();
        let slots: Vec<(Vec<Listed<'_>>, Version)> = collection
            .listed
            .iter()
            .map(|listed| {
                // Whoever is hasty takes the word of one for that of all.
                let listing = listed.as_ref().or(seen.as_ref()).expect("one has told");
                let keys = listing.records.keys();
                (keys.map(|key| listed_as(&names, *key, listing)).collect(), listing.watermark)
            })
            .collect();
        let slots: Vec<Option<Slot<'_, '_>>> = slots
            .iter()
            .map(|(records, watermark)| Some(Slot { records, watermark: *watermark }))
            .collect();
        let every = Set::first(self.stores.len());
        let facts = Facts {
            begun_unix_ms: collection.begun_unix_ms,
            age_ms_min: AGE_MS_MIN,
            replicas: self.stores.len(),
            told: if is_hasty { every } else { collection.told },
            is_moving: false,
        };
        let Ok(collected) = collectable(&facts, &slots) else { return };
        if collected.is_empty() {
            return;
        }
        collection.is_done = true;
        // Not again at once: one that was not reached is left as it is for a while.
        self.collects_at_us = self.now_us + 2_500_000;
        self.count("collected");
        let collected: Vec<(Key, Version)> =
            collected.iter().map(|(key, version)| (key_of(key), *version)).collect();
        // Often it reaches one of them much later than the others.
        let request = Request::Raise(collected);
        let last = self.rng.usize(0..self.stores.len());

        for store in 0..self.stores.len() {
            let is_late = store == last && self.chance(50);
            let later_us = if is_late { self.rng.u64(0..4_000_000) } else { 0 };
            let letter = head.letter(at, number, store, request.clone());
            self.send(later_us, store, &letter);
        }
    }
}

fn listed_as<'n>(names: &'n [String], key: Key, of: &Listing) -> Listed<'n> {
    let (record, is_damaged) = (of.records[&key], of.damaged.contains(&key));
    let (version, is_tombstone) = (record.version, record.is_tombstone);
    Listed { key: &names[usize::from(key)], version, is_tombstone, is_damaged }
}

fn key_of(name: &str) -> Key {
    name.parse().expect("a key's name is its number")
}
