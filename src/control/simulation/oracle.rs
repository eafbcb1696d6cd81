//! What was promised, what was seen, and do they agree?
//!
//! Nodes tell it what they asked for and what they were answered; the world shows it what each
//! node believes after every step. It judges as soon as it can, and the rest at the end.

use std::collections::BTreeMap;

use crate::cluster::ClusterState;
use crate::ids::{Epoch, NodeId, Revision, Term};

/// Whole states are compared at every so manieth revision; their commands at every one.
const COMPARED_EACH: u64 = 50;

/// What became of a proposal, as its proposer was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is agreed.
    Acknowledged(Revision),
    /// It is not, and never will be.
    NotDone,
    /// Nobody knows. Also what a proposer that was killed was told.
    Unknown,
}

#[derive(Debug)]
struct Proposal {
    at_ms: u64,
    /// The highest revision that anybody was told of when it was made.
    after: Revision,
    outcome: Outcome,
}

/// The memory of a run.
#[derive(Debug, Default)]
pub struct Oracle {
    /// By the actor, which is another one each time.
    proposals: BTreeMap<String, Proposal>,
    acknowledged: Revision,
    applied: BTreeMap<Revision, String>,
    states: BTreeMap<Revision, blake3::Hash>,
    epochs: BTreeMap<Revision, Epoch>,
    leaders: BTreeMap<Term, NodeId>,
    installed: usize,
    /// What happened, for whoever reads a failure, and to compare two runs.
    pub trace: Vec<String>,
    /// What must not have happened.
    pub wrong: Vec<String>,
}

impl Oracle {
    /// Notes an event.
    pub fn say(&mut self, at_ms: u64, what: &str) {
        self.trace.push(format!("{at_ms:>6} {what}"));
    }

    fn must(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(otherwise());
        }
    }

    /// A proposal is being made.
    pub fn proposes(&mut self, at_ms: u64, actor: &str) {
        let proposal = Proposal { at_ms, after: self.acknowledged, outcome: Outcome::Unknown };
        let before = self.proposals.insert(actor.to_owned(), proposal);
        assert!(before.is_none(), "{actor} proposes once");
    }

    /// Its proposer was told.
    pub fn answered(&mut self, actor: &str, outcome: Outcome) {
        if let Outcome::Acknowledged(revision) = outcome {
            self.acknowledged = self.acknowledged.max(revision);
        }
        self.proposals.get_mut(actor).expect("it was made").outcome = outcome;
    }

    /// What a read that begins now must see.
    pub fn acknowledged(&self) -> Revision {
        self.acknowledged
    }

    /// A read that began when `acknowledged` was told ended at `index`.
    pub fn read(&mut self, node: &str, acknowledged: Revision, index: Revision) {
        self.must(index >= acknowledged, || {
            format!("{node} read at {index} what was acknowledged at {acknowledged}")
        });
    }

    /// A node believes that it leads.
    pub fn leads(&mut self, at_ms: u64, node: NodeId, term: Term) {
        match self.leaders.insert(term, node) {
            None => self.say(at_ms, &format!("node {node} leads in term {term}")),
            Some(other) => self.must(other == node, || {
                format!("nodes {other} and {node} both lead in term {term}")
            }),
        }
    }

    /// How many terms had a leader.
    pub fn leaders(&self) -> usize {
        self.leaders.len()
    }

    /// A node took another's snapshot.
    pub fn installs(&mut self) {
        self.installed += 1;
    }

    /// How many snapshots were taken over.
    pub fn installed(&self) -> usize {
        self.installed
    }

    /// A node has applied up to this state; `seen` is what it had applied when it was last shown.
    pub fn sees(&mut self, node: &str, seen: Revision, state: &ClusterState) {
        let revision = state.revision();
        for record in state.history().iter().rev().take_while(|record| record.revision > seen) {
            let actor = record.actor.as_str();
            let first = self.applied.entry(record.revision).or_insert_with(|| actor.to_owned());
            if first != actor {
                let what = format!("{node} applied {actor} at {}, others {first}", record.revision);
                self.wrong.push(what);
            }
        }
        if let Some(pool) = state.pools().values().next() {
            self.epoch(node, revision, pool.epoch);
        }
        if revision.0.is_multiple_of(COMPARED_EACH) {
            self.compare(node, state);
        }
    }

    fn epoch(&mut self, node: &str, at: Revision, epoch: Epoch) {
        let same = *self.epochs.entry(at).or_insert(epoch) == epoch;
        let before = self.epochs.range(..at).next_back().map(|(_, epoch)| *epoch);
        let after = self.epochs.range(at.next()..).next().map(|(_, epoch)| *epoch);
        let grows =
            before.is_none_or(|before| before <= epoch) && after.is_none_or(|after| epoch <= after);
        self.must(same && grows, || format!("{node} is at epoch {epoch} at revision {at}"));
    }

    fn compare(&mut self, node: &str, state: &ClusterState) {
        let digest = blake3::hash(&state.encode());
        let first = *self.states.entry(state.revision()).or_insert(digest);
        self.must(first == digest, || {
            format!("{node} has another state at revision {}", state.revision())
        });
    }

    /// Everything has healed and stands still: the last judgement.
    pub fn ends(&mut self, states: &[(String, std::sync::Arc<ClusterState>)]) {
        for (node, state) in states {
            self.compare(node, state);
            let newest = self.applied.last_key_value().map(|(revision, _)| *revision);
            let seen = state.history().last().map(|record| record.revision);
            self.must(newest == seen, || format!("{node} stopped at {seen:?} before {newest:?}"));
        }
        let mut times: BTreeMap<&str, Vec<Revision>> = BTreeMap::new();
        for (revision, actor) in &self.applied {
            times.entry(actor).or_default().push(*revision);
        }
        for (actor, Proposal { after, outcome, .. }) in &self.proposals {
            let found = times.get(actor.as_str()).map_or(&[][..], Vec::as_slice);
            let kept = match outcome {
                Outcome::Acknowledged(revision) => found == [*revision],
                Outcome::NotDone => found.is_empty(),
                Outcome::Unknown => found.len() <= 1,
            };
            if !kept {
                self.wrong.push(format!("{actor} was told {outcome:?} and is at {found:?}"));
            }
            if found.iter().any(|revision| revision <= after) {
                let what = format!("{actor} came after {after} and is at {found:?}");
                self.wrong.push(what);
            }
        }
    }

    /// Whether something that whoever begins with `prefix` proposed since `from_ms` was agreed.
    pub fn was_heard_since(&self, prefix: &str, from_ms: u64) -> bool {
        self.proposals.iter().any(|(actor, proposal)| {
            actor.starts_with(prefix)
                && proposal.at_ms >= from_ms
                && matches!(proposal.outcome, Outcome::Acknowledged(_))
        })
    }

    /// How many proposals had which outcome: acknowledged, not done, unknown.
    pub fn outcomes(&self) -> [usize; 3] {
        let count = |is: fn(&Outcome) -> bool| {
            self.proposals.values().filter(|proposal| is(&proposal.outcome)).count()
        };
        [
            count(|outcome| matches!(outcome, Outcome::Acknowledged(_))),
            count(|outcome| matches!(outcome, Outcome::NotDone)),
            count(|outcome| matches!(outcome, Outcome::Unknown)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::{first_pool, move_shard};
    use super::*;
    use crate::cluster::{Actor, Command, Envelope};
    use std::sync::Arc;

    /// A state in which these actors did something, one after another, from revision 2 on.
    fn state(actors: &[&str]) -> ClusterState {
        let mut state = ClusterState::default();
        let mut apply = |at: usize, actor: &str, command: Command| {
            let actor = Actor::tamed(actor);
            let envelope = Envelope { id: None, actor, at_ms: 0, command };
            state.apply(Revision(at as u64), &envelope).expect("it can be done");
        };
        apply(1, "first", first_pool(1));
        for (at, actor) in actors.iter().enumerate() {
            apply(at + 2, actor, move_shard(0, &format!("h{at}")));
        }
        state
    }

    /// Two clients propose one after another and are told so; both nodes end in `states`.
    fn judge(answers: [Outcome; 2], states: [&[&str]; 2]) -> Vec<String> {
        let mut oracle = Oracle::default();
        for (actor, outcome) in ["a", "b"].into_iter().zip(answers) {
            oracle.proposes(0, actor);
            oracle.answered(actor, outcome);
        }
        let [n0, n1] = states.map(state).map(Arc::new);
        let states = [("n0".to_owned(), n0), ("n1".to_owned(), n1)];
        for (node, state) in &states {
            oracle.sees(node, Revision(0), state);
        }
        oracle.ends(&states);
        oracle.wrong
    }

    #[test]
    fn each_broken_promise_is_found() {
        use Outcome::{Acknowledged, NotDone, Unknown};
        let told = [Acknowledged(Revision(2)), Acknowledged(Revision(3))];
        let good: &[&str] = &["a", "b"];
        let found = |answers, states, what: &str| {
            let wrong = judge(answers, states);
            assert!(wrong.iter().any(|wrong| wrong.contains(what)), "`{what}` in {wrong:?}");
        };
        for answers in [told, [Unknown, told[1]], [told[0], Unknown], [Unknown, Unknown]] {
            assert_eq!(judge(answers, [good, good]), Vec::<String>::new());
        }
        assert_eq!(judge([told[0], Unknown], [&["a"], &["a"]]), Vec::<String>::new());
        assert_eq!(judge([told[0], NotDone], [&["a"], &["a"]]), Vec::<String>::new());

        found(told, [&["a"], &["a"]], "b was told Acknowledged(Revision(3)) and is at []");
        found(told, [&["a", "b", "b"], &["a", "b", "b"]], "b was told");
        found(told, [&["a", "c", "b"], &["a", "c", "b"]], "b was told");
        found([told[0], NotDone], [good, good], "b was told NotDone");
        found([told[0], Unknown], [&["a", "b", "b"], &["a", "b", "b"]], "b was told Unknown");
        found([Acknowledged(Revision(3)), Unknown], [&["b", "a"], &["b", "a"]], "b came after");
        found(told, [good, &["b", "a"]], "n1 applied");
        found(told, [good, &["a"]], "n1 stopped at Some(Revision(2))");
    }

    #[test]
    fn what_is_seen_on_the_way_is_judged_at_once() {
        let mut oracle = Oracle::default();
        oracle.leads(0, NodeId(1), Term(1));
        oracle.leads(9, NodeId(1), Term(1));
        oracle.leads(9, NodeId(2), Term(2));
        oracle.read("n0", Revision(5), Revision(5));
        assert_eq!(oracle.wrong, Vec::<String>::new());
        oracle.leads(10, NodeId(3), Term(2));
        oracle.read("n0", Revision(5), Revision(4));
        assert_eq!(oracle.wrong.len(), 2, "{:?}", oracle.wrong);
    }

    #[test]
    fn epochs_and_states_of_one_revision_are_compared() {
        let with_epochs = |epochs: &[u64]| {
            let mut oracle = Oracle::default();
            for (at, epoch) in epochs.iter().enumerate() {
                oracle.epoch("n0", Revision(at as u64), Epoch(*epoch));
            }
            oracle.wrong.len()
        };
        assert_eq!(with_epochs(&[1, 1, 2, 7]), 0);
        assert_eq!(with_epochs(&[1, 2, 1]), 1);
        let mut oracle = Oracle::default();
        oracle.compare("n0", &state(&["a", "b"]));
        oracle.compare("n1", &state(&["a", "c"]));
        assert_eq!(oracle.wrong, ["n1 has another state at revision 3"]);
    }
}
