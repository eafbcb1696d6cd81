//! One shard: its probes, its connections, and its two lanes.

use super::agreed::{Agreed, Group, Turned};
use super::evidence::Finding;
use super::lane::{Lane, Trial};
use super::observation::{Class, Failure, Observation, PerClass, ProbeFailure, Verdict, per_class};
use super::report::{Change, ClassView, Reason, Return, Scope, ShardView, Standing};
use super::settings::{ActiveSettings, PassiveSettings};
use crate::ids::Token;

/// `Default` is a shard of which nothing is known: it is up. (A shard that is not there is found
/// out by the first requests for it; one that waited for its first probe would be a pool that
/// refuses everything at each start.)
#[derive(Debug, Clone, Default)]
pub(super) struct Shard {
    /// Set by the operator: no request is meant for it, so none is evidence.
    maint: bool,
    /// Why and since when the probes have it down.
    down: Option<(Reason, u64)>,
    /// Whether its probes have ever come to a result: one has passed, or enough have failed.
    probed: bool,
    /// Probes passed in a row, since the last ejection for connections if there was one.
    probes_passed: u32,
    /// Probes failed in a row.
    probes_failed: u32,
    /// Connections in a row that could not be made; any answer ends the row.
    connects_failed: u32,
    lanes: PerClass<Lane>,
    /// What is agreed about it; no evidence of this node's.
    agreed: Agreed,
}

/// A rule is met: these lanes should be ejected, if that many may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Charge {
    lanes: PerClass<bool>,
    why: Reason,
    trial_after: Trial,
}

/// What the request path is told of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks {
    /// Whether requests may go to it.
    pub(super) usable: PerClass<bool>,
    /// Whether a verdict says that it is down.
    pub(super) verdict: PerClass<bool>,
    /// Whether a success must be reported to the machine.
    pub(super) wants_success: PerClass<bool>,
    /// Whether a success must be counted.
    pub(super) counts: PerClass<bool>,
}

impl Shard {
    /// In maintenance.
    pub(super) fn is_maint(&self) -> bool {
        self.maint
    }

    /// Puts it into maintenance or takes it out. Ejections run on; pending evidence is void.
    pub(super) fn set_maint(&mut self, maint: bool) {
        self.maint = maint;
        self.connects_failed = 0;
        self.lanes.read.evidence.forget();
        self.lanes.write.evidence.forget();
    }

    /// Down by its probes.
    pub(super) fn is_down(&self) -> bool {
        self.down.is_some()
    }

    /// Ejected in one class or both.
    pub(super) fn is_ejected(&self) -> bool {
        self.lanes.read.is_ejected() || self.lanes.write.is_ejected()
    }

    /// Whether its probes, if there are any, have come to a result.
    pub(super) fn is_probed(&self) -> bool {
        self.probed
    }

    /// Whether this node's own evidence speaks against requests of `class`.
    pub(super) fn is_suspect(&self, class: Class) -> bool {
        self.is_down() || self.lanes[class].is_ejected()
    }

    /// Whether a verdict says that it is down. A group of one has its own probes for that.
    fn has_verdict(&self, group: Group, class: Class) -> bool {
        match group {
            Group::Alone => self.is_down(),
            Group::Heard | Group::Lost => self.agreed.is_down(class),
        }
    }

    /// Whether requests of `class` may go to it.
    pub(super) fn is_usable(&self, group: Group, class: Class) -> bool {
        let agreed_down = group == Group::Heard && self.agreed.is_down(class);
        !self.is_suspect(class) && !agreed_down
    }

    /// Takes over what is agreed about it.
    pub(super) fn set_agreed(&mut self, now_ms: u64, down: PerClass<bool>) -> Turned {
        self.agreed.set(now_ms, down)
    }

    /// When its last ejection ends.
    pub(super) fn ejected_until_ms(&self) -> Option<u64> {
        Class::ALL
            .into_iter()
            .filter_map(|class| match self.lanes[class].standing() {
                Standing::Ejected { until_ms } => Some(until_ms),
                Standing::Up | Standing::Down => None,
            })
            .max()
    }

    pub(super) fn marks(&self, group: Group) -> Marks {
        let served = !self.is_down() && !self.maint;
        Marks {
            usable: per_class(|class| self.is_usable(group, class)),
            verdict: per_class(|class| self.has_verdict(group, class)),
            wants_success: per_class(|class| {
                let lane = &self.lanes[class];
                served && (lane.wants_success() || self.connects_failed > 0)
            }),
            counts: per_class(|class| served && self.lanes[class].evidence.counts()),
        }
    }

    pub(super) fn view(&self) -> ShardView {
        let view = |class: Class| {
            let lane = &self.lanes[class];
            match (self.down, lane.ejected_for()) {
                (Some((why, since_ms)), _) => {
                    ClassView { standing: Standing::Down, why: Some(why), since_ms }
                }
                (None, Some((why, since_ms))) => {
                    ClassView { standing: lane.standing(), why: Some(why), since_ms }
                }
                (None, None) => {
                    ClassView { standing: Standing::Up, why: None, since_ms: lane.returned_ms() }
                }
            }
        };
        ShardView {
            read: view(Class::Read),
            write: view(Class::Write),
            agreed_down_since_ms: self.agreed.down_since_ms(),
            maint: self.maint,
        }
    }

    /// A probe of shard `ix` ended.
    pub(super) fn probed(
        &mut self,
        now_ms: u64,
        ix: usize,
        result: Result<(), ProbeFailure>,
        active: &ActiveSettings,
        passive: Option<&PassiveSettings>,
    ) -> Option<Change> {
        match result {
            Ok(()) => {
                self.probed = true;
                self.probes_failed = 0;
                self.probes_passed = self.probes_passed.saturating_add(1);
                if self.probes_passed < active.rise.max(1) {
                    return None;
                }
                let passed = self.probes_passed;
                if self.down.take().is_some() {
                    self.lanes.read.resume(now_ms);
                    self.lanes.write.resume(now_ms);
                    return Some(Change::Up { shard: ix, passed });
                }
                let returned = per_class(|class| {
                    let lane = &mut self.lanes[class];
                    lane.is_ejected_for_connect() && lane.release(now_ms)
                });
                let scope = Scope::of(returned)?;
                Some(Change::Returned { shard: ix, scope, why: Return::Probes { passed } })
            }
            Err(last) => {
                self.probes_passed = 0;
                self.probes_failed = self.probes_failed.saturating_add(1);
                if self.is_down() || self.probes_failed < active.fall.max(1) {
                    return None;
                }
                let why = Reason::Probes { failures: self.probes_failed, last };
                self.down = Some((why, now_ms));
                self.probed = true;
                self.connects_failed = 0;
                self.lanes.read.suspend(now_ms, passive);
                self.lanes.write.suspend(now_ms, passive);
                Some(Change::Down { shard: ix, why })
            }
        }
    }

    /// A request ended.
    pub(super) fn observed(
        &mut self,
        now_ms: u64,
        seen: &Observation,
        rules: &PassiveSettings,
    ) -> Option<Charge> {
        // While the probes have it down, they alone say when it is back.
        if self.maint || self.is_down() {
            return None;
        }
        match seen.outcome.verdict() {
            Verdict::Good => {
                self.reached();
                let lane = &mut self.lanes[seen.class];
                if !lane.is_ejected() {
                    lane.succeeded();
                }
                None
            }
            Verdict::Neutral => {
                self.reached();
                None
            }
            Verdict::Failed(Failure::Connect) => {
                self.not_connected(now_ms, seen.class, seen.key, seen.begun_ms, rules)
            }
            Verdict::Failed(failure) => {
                if let Failure::Status(_) = failure {
                    self.reached();
                }
                let lane = &mut self.lanes[seen.class];
                if !lane.takes_blame(seen.begun_ms) {
                    return None;
                }
                let on_trial = lane.trial(now_ms, rules) == Some(Trial::Answers);
                let finding = lane.evidence.failed(now_ms, seen.key, failure, rules);
                let why = if on_trial {
                    Reason::Relapse { last: failure }
                } else {
                    reason(finding?, failure)
                };
                Some(Charge {
                    lanes: per_class(|class| class == seen.class),
                    why,
                    trial_after: Trial::Answers,
                })
            }
        }
    }

    /// A connection is neither a read nor a write: one that fails is evidence against both.
    fn not_connected(
        &mut self,
        now_ms: u64,
        class: Class,
        key: Token,
        begun_ms: u64,
        rules: &PassiveSettings,
    ) -> Option<Charge> {
        let blamed = per_class(|class| self.lanes[class].takes_blame(begun_ms));
        Scope::of(blamed)?;
        let trials =
            per_class(
                |class| {
                    if blamed[class] { self.lanes[class].trial(now_ms, rules) } else { None }
                },
            );
        self.connects_failed = self.connects_failed.saturating_add(1);
        if blamed[class] {
            self.lanes[class].evidence.failed(now_ms, key, Failure::Connect, rules);
        }

        let last = Failure::Connect;
        let (lanes, why) = if Class::ALL.into_iter().any(|c| trials[c] == Some(Trial::Connect)) {
            (blamed, Reason::Relapse { last })
        } else if rules.connect_errors > 0 && self.connects_failed >= rules.connect_errors {
            (blamed, Reason::ConnectErrors { failures: self.connects_failed })
        } else if trials[class] == Some(Trial::Answers) {
            (per_class(|c| c == class), Reason::Relapse { last })
        } else {
            return None;
        };
        Some(Charge { lanes, why, trial_after: Trial::Connect })
    }

    /// The shard answered something.
    fn reached(&mut self) {
        self.connects_failed = 0;
        self.lanes.read.reached();
        self.lanes.write.reached();
    }

    /// Ends the ejections whose time is over.
    pub(super) fn release_due(&mut self, now_ms: u64, ix: usize) -> Option<Change> {
        let returned = per_class(|class| {
            let lane = &mut self.lanes[class];
            lane.is_due(now_ms) && lane.release(now_ms)
        });
        let scope = Scope::of(returned)?;
        Some(Change::Returned { shard: ix, scope, why: Return::Time })
    }

    /// Ends all its ejections, because fewer shards may be ejected than were.
    pub(super) fn release_all(&mut self, now_ms: u64, ix: usize) -> Option<Change> {
        let returned = per_class(|class| self.lanes[class].release(now_ms));
        let scope = Scope::of(returned)?;
        Some(Change::Returned { shard: ix, scope, why: Return::Limit })
    }

    /// Looks at the error rate of one lane, of which `good` requests have succeeded in all.
    pub(super) fn rated(
        &mut self,
        now_ms: u64,
        class: Class,
        good: u64,
        rules: &PassiveSettings,
    ) -> Option<Charge> {
        if self.maint || self.is_down() || self.lanes[class].is_ejected() {
            return None;
        }
        let evidence = &mut self.lanes[class].evidence;
        let finding = evidence.tick(now_ms, good, rules)?;
        let last = evidence.last().expect("a rate of failures has a last one");
        Some(Charge {
            lanes: per_class(|c| c == class),
            why: reason(finding, last),
            trial_after: Trial::Answers,
        })
    }

    /// Ejects what `charge` names.
    pub(super) fn eject(
        &mut self,
        now_ms: u64,
        ix: usize,
        charge: &Charge,
        rules: &PassiveSettings,
    ) -> Option<Change> {
        let (mut for_ms, mut times) = (0, 0);
        for class in Class::ALL.into_iter().filter(|class| charge.lanes[*class]) {
            let (lane_ms, lane_times) =
                self.lanes[class].eject(now_ms, charge.why, charge.trial_after, rules);
            for_ms = for_ms.max(lane_ms);
            times = times.max(lane_times);
        }
        if charge.trial_after == Trial::Connect {
            self.connects_failed = 0;
            // Only probes that begin to pass after this count towards the return.
            self.probes_passed = 0;
        }
        let scope = Scope::of(charge.lanes)?;
        Some(Change::Ejected { shard: ix, scope, why: charge.why, for_ms, times })
    }

    /// Notes that `charge` was not carried out; said once.
    pub(super) fn spare(&mut self, ix: usize, charge: &Charge) -> Option<Change> {
        let spared = per_class(|class| charge.lanes[class] && self.lanes[class].spare());
        let scope = Scope::of(spared)?;
        Some(Change::Spared { shard: ix, scope, why: charge.why })
    }

    /// Forgets what no longer has anyone to change it: a verdict of probes that are not sent any
    /// more, ejections that no rule stands behind.
    pub(super) fn forget_without(&mut self, probes: bool, requests: bool) {
        if !probes {
            self.down = None;
            self.probed = false;
            self.probes_failed = 0;
            self.probes_passed = 0;
        }
        if !requests {
            self.connects_failed = 0;
            self.lanes = PerClass::default();
        }
    }

    pub(super) fn next_deadline(&self, rules: &PassiveSettings) -> Option<u64> {
        Class::ALL.into_iter().filter_map(|class| self.lanes[class].next_deadline(rules)).min()
    }
}

fn reason(finding: Finding, last: Failure) -> Reason {
    match finding {
        Finding::Streak { failures } => Reason::Answers { failures, last },
        Finding::Rate { failed, requests } => Reason::Rate { requests, failed, last },
    }
}
