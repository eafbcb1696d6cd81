//! The machine: one pool's health as this node sees it.

use super::agreed::Group;
use super::observation::{Class, Observation, PerClass, ProbeFailure, per_class};
use super::report::{Census, Change, ShardView};
use super::settings::HealthSettings;
use super::shard::{Charge, Marks, Shard};

/// One pool's health; see the module's doc for the rules.
///
/// Shards are named by their place in the pool (`ShardIx`). A place beyond the pool is nobody: it
/// is ignored, and looks up. Time never runs backwards here: an input that is older than another
/// counts as made at the same moment, because threads take their stamps before they take the lock.
#[derive(Debug, Clone)]
pub struct PoolHealth {
    settings: HealthSettings,
    shards: Vec<Shard>,
    /// The latest time heard of.
    now_ms: u64,
    /// Whether verdicts are given, and heard.
    group: Group,
    /// More than `panic_percent` looks down. Follows from the above; kept so that its changes show.
    panic: PerClass<bool>,
}

impl PoolHealth {
    /// A pool of `n_shards` of which nothing is known yet: all are up.
    #[must_use]
    pub fn new(settings: HealthSettings, n_shards: usize) -> Self {
        let shards = vec![Shard::default(); n_shards];
        Self { settings, shards, now_ms: 0, group: Group::Alone, panic: PerClass::default() }
    }

    /// The pool after a change of its shards or settings: what is known of a shard goes with it.
    ///
    /// `was` says for each shard of the new pool which place it had in this one, `None` if it is
    /// new (or has moved to another address, of which nothing is known). Maintenance and what is
    /// agreed go with a shard too. Without probes in the new settings no shard stays down; without passive
    /// detection none stays ejected.
    #[must_use]
    pub fn successor(
        &self,
        settings: HealthSettings,
        was: &[Option<usize>],
    ) -> (Self, Vec<Change>) {
        let probes = settings.active.is_some();
        let requests = settings.passive.is_some();
        let carried = |place: &Option<usize>| {
            let mut shard = place.and_then(|at| self.shards.get(at)).cloned().unwrap_or_default();
            shard.forget_without(probes, requests);
            shard
        };
        let shards = was.iter().map(carried).collect();
        let (now_ms, group, panic) = (self.now_ms, self.group, self.panic);
        let mut next = Self { settings, shards, now_ms, group, panic };
        let changes = next.settle();
        (next, changes)
    }

    /// The operator has put a shard into maintenance or taken it out. It counts neither as one
    /// that may be ejected nor as one that looks down while it is in.
    pub fn set_maint(&mut self, now_ms: u64, shard: usize, maint: bool) -> Vec<Change> {
        self.advance(now_ms);
        match self.shards.get_mut(shard) {
            Some(found) if found.is_maint() != maint => {
                found.set_maint(maint);
                self.settle()
            }
            _ => Vec::new(),
        }
    }

    /// What is agreed now: which shards are down, by place. Those that are not named are up. From
    /// the first call on the node is no group of one any more.
    pub fn set_agreed(&mut self, now_ms: u64, down: &[PerClass<bool>]) -> Vec<Change> {
        let now_ms = self.advance(now_ms);
        let mut changes = Vec::new();
        for (shard, found) in self.shards.iter_mut().enumerate() {
            let turned = found.set_agreed(now_ms, down.get(shard).copied().unwrap_or_default());
            changes.extend(turned.down.map(|scope| Change::AgreedDown { shard, scope }));
            changes.extend(turned.up.map(|scope| Change::AgreedUp { shard, scope }));
        }
        if self.group == Group::Alone {
            self.group = Group::Heard;
        }
        self.and_panic(changes)
    }

    /// Whether the group that gives verdicts is heard: this node has a lease. While it is not, its
    /// own view alone orders the shards.
    pub fn set_group_heard(&mut self, heard: bool) -> Vec<Change> {
        self.group = if heard { Group::Heard } else { Group::Lost };
        self.and_panic(Vec::new())
    }

    /// Which of a shard's classes are down by this node's own evidence: what it tells the others.
    /// Were what is agreed a part of it, a verdict would be its own confirmation and never end.
    ///
    /// `None` while it has nothing to tell: the shard is probed, and no probe has come to a result.
    /// A shard of which nothing is known is used, but it is not *seen* to be up: nodes that were
    /// just started would vote a dead shard back before their first probes fail. Where there are no
    /// probes, requests are all the evidence there can be, and those that are not sent to a shard
    /// that is agreed down cannot tell of its return; there silence would be for ever.
    #[must_use]
    pub fn own_view(&self, shard: usize) -> Option<PerClass<bool>> {
        let shard = self.shards.get(shard)?;
        let has_evidence = shard.is_probed() || self.settings.active.is_none();
        has_evidence.then(|| per_class(|class| shard.is_suspect(class)))
    }

    /// A probe of `shard` ended. Without active settings nothing follows.
    pub fn probe_result(
        &mut self,
        now_ms: u64,
        shard: usize,
        result: Result<(), ProbeFailure>,
    ) -> Vec<Change> {
        let now_ms = self.advance(now_ms);
        let Some(active) = &self.settings.active else { return Vec::new() };
        let passive = self.settings.passive.as_ref();
        let Some(found) = self.shards.get_mut(shard) else { return Vec::new() };
        match found.probed(now_ms, shard, result, active, passive) {
            Some(change) => self.and_panic(vec![change]),
            None => Vec::new(),
        }
    }

    /// A try at `shard` ended. Without passive settings nothing follows.
    ///
    /// Successes need not be reported unless [`Self::wants_success`] says so; those that are
    /// reported all the same do no harm.
    pub fn observe(&mut self, now_ms: u64, shard: usize, seen: &Observation) -> Vec<Change> {
        let now_ms = self.advance(now_ms);
        let Some(rules) = &self.settings.passive else { return Vec::new() };
        let Some(found) = self.shards.get_mut(shard) else { return Vec::new() };
        match found.observed(now_ms, seen, rules) {
            Some(charge) => {
                let changes = self.decide(shard, &charge).into_iter().collect();
                self.and_panic(changes)
            }
            None => Vec::new(),
        }
    }

    /// Time has passed: ends ejections and looks at the error rates.
    ///
    /// `good` gives, for a shard and a class, how many of its requests have succeeded in all. The
    /// request path need only count while [`Self::counts_success`]; a total that stands still
    /// otherwise is what is expected. To be called at [`Self::next_deadline`]; at any other time
    /// it does no harm.
    pub fn tick(&mut self, now_ms: u64, good: impl Fn(usize, Class) -> u64) -> Vec<Change> {
        let now_ms = self.advance(now_ms);
        let Some(rules) = self.settings.passive.clone() else { return Vec::new() };
        // First all returns, so that a shard may be ejected in the place of one that is back.
        let mut changes: Vec<Change> = Vec::new();
        for (ix, shard) in self.shards.iter_mut().enumerate() {
            changes.extend(shard.release_due(now_ms, ix));
        }
        for ix in 0..self.shards.len() {
            for class in Class::ALL {
                let charge = self.shards[ix].rated(now_ms, class, good(ix, class), &rules);
                if let Some(charge) = charge {
                    changes.extend(self.decide(ix, &charge));
                }
            }
        }
        self.and_panic(changes)
    }

    /// When [`Self::tick`] has something to do next. `None`: nothing, until a request fails.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let rules = self.settings.passive.as_ref()?;
        self.shards.iter().filter_map(|shard| shard.next_deadline(rules)).min()
    }

    /// What is known of one shard. A place beyond the pool looks up.
    #[must_use]
    pub fn view(&self, shard: usize) -> ShardView {
        self.shards.get(shard).map_or_else(|| Shard::default().view(), Shard::view)
    }

    /// Whether a success of `class` at `shard` must be reported.
    #[must_use]
    pub fn wants_success(&self, shard: usize, class: Class) -> bool {
        self.marks(shard).wants_success[class]
    }

    /// Whether a success of `class` at `shard` must be counted for the error rate.
    #[must_use]
    pub fn counts_success(&self, shard: usize, class: Class) -> bool {
        self.marks(shard).counts[class]
    }

    /// Whether so much of the pool looks down that health should not decide the order of trying.
    #[must_use]
    pub fn panic(&self, class: Class) -> bool {
        self.panic[class]
    }

    /// The pool in numbers.
    #[must_use]
    pub fn census(&self) -> Census {
        let count = |which: &dyn Fn(&Shard) -> bool| {
            u32::try_from(self.shards.iter().filter(|shard| which(shard)).count())
                .unwrap_or(u32::MAX)
        };
        let usable = |shard: &Shard, class| shard.is_usable(self.group, class);
        let looks_down = |class| count(&|s| !s.is_maint() && !usable(s, class));
        Census {
            total: count(&|_| true),
            healthy: count(&|s| !s.is_maint() && usable(s, Class::Read) && usable(s, Class::Write)),
            excluded: count(&|s| s.is_maint()),
            ejected: count(&|s| !s.is_maint() && s.is_ejected()),
            looks_down: PerClass { read: looks_down(Class::Read), write: looks_down(Class::Write) },
        }
    }

    /// How many shards may be ejected at once: `max_ejection_percent` of those in service, but one.
    #[must_use]
    pub fn ejected_max(&self) -> usize {
        let percent = self.settings.passive.as_ref().map_or(0, |p| p.max_ejection_percent);
        let in_service = self.shards.iter().filter(|shard| !shard.is_maint()).count();
        (in_service * percent.min(100) as usize / 100).max(1)
    }

    /// What the machine was made with.
    #[must_use]
    pub fn settings(&self) -> &HealthSettings {
        &self.settings
    }

    /// The latest time that it has heard of.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// How many shards it knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.len()
    }

    /// Whether it knows none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    pub(super) fn marks(&self, shard: usize) -> Marks {
        let group = self.group;
        self.shards.get(shard).map_or_else(|| Shard::default().marks(group), |s| s.marks(group))
    }

    fn advance(&mut self, now_ms: u64) -> u64 {
        self.now_ms = self.now_ms.max(now_ms);
        self.now_ms
    }

    /// Ejects if that many may be.
    fn decide(&mut self, ix: usize, charge: &Charge) -> Option<Change> {
        let rules = self.settings.passive.as_ref().expect("only passive rules charge a shard");
        let allowed = self.shards[ix].is_ejected() || self.ejected() < self.ejected_max();
        let shard = &mut self.shards[ix];
        if allowed { shard.eject(self.now_ms, ix, charge, rules) } else { shard.spare(ix, charge) }
    }

    fn ejected(&self) -> usize {
        self.shards.iter().filter(|shard| !shard.is_maint() && shard.is_ejected()).count()
    }

    /// After shards came, went, or were put into maintenance: returns the ejected shards that are
    /// too many, those that would return soonest first.
    fn settle(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        while self.ejected() > self.ejected_max() {
            let soonest = self
                .shards
                .iter()
                .enumerate()
                .filter(|(_, shard)| !shard.is_maint())
                .filter_map(|(ix, shard)| Some((shard.ejected_until_ms()?, ix)))
                .min();
            let (_, ix) = soonest.expect("more than none are ejected");
            changes.extend(self.shards[ix].release_all(self.now_ms, ix));
        }
        self.and_panic(changes)
    }

    /// Adds what `changes` mean for the pool as a whole.
    fn and_panic(&mut self, mut changes: Vec<Change>) -> Vec<Change> {
        let census = self.census();
        let in_service = u64::from(census.total - census.excluded);
        for class in Class::ALL {
            let looks_down = u64::from(census.looks_down[class]);
            let panic = looks_down * 100 > in_service * u64::from(self.settings.panic_percent);
            if panic != self.panic[class] {
                self.panic[class] = panic;
                changes.push(match panic {
                    true => Change::Panicked { class },
                    false => Change::Calmed { class },
                });
            }
        }
        changes
    }
}
