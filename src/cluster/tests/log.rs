//! One log, many replicas: the same entries lead to the same bytes, and copies of a proposal to one
//! application of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::cluster::session::Session;
use crate::ring::RingSpec;

/// The state as far as anybody but a proposer sees it.
fn visible(state: &ClusterState) -> ClusterState {
    ClusterState { sessions: BTreeMap::new(), ..state.clone() }
}

/// Idempotency as one would write it with memory to waste: every answer under its id, for ever.
#[derive(Default)]
struct Naive {
    state: ClusterState,
    answers: BTreeMap<CommandId, Result<Applied, Refusal>>,
}

impl Naive {
    fn apply(&mut self, at: Revision, envelope: &Envelope) -> Result<Applied, Refusal> {
        if let Some(id) = envelope.id {
            let node = self.state.nodes().get(&id.node);
            let current = node.is_some_and(|node| node.incarnation == id.incarnation);
            // Numbers begin at 1, and nobody has proposed before the first start.
            if !current || id.incarnation == Incarnation(0) || id.sequence == 0 {
                return Err(Refusal::Superseded);
            }
            if let Some(answer) = self.answers.get(&id) {
                return answer.clone().map(|applied| Applied { repeated: true, ..applied });
            }
        }
        let answer = self.state.apply(at, &Envelope { id: None, ..envelope.clone() });
        if let Some(id) = envelope.id {
            self.answers.insert(id, answer.clone());
        }
        answer
    }
}

proptest! {
    /// Two replicas, one of which is replaced in the middle by what its snapshot says.
    #[test]
    fn the_same_log_leads_to_the_same_bytes(log in any_log(), snapshot_at in 0_usize..60) {
        let (mut one, mut other) = (founded(), founded());
        for (at, envelope) in log.iter().enumerate() {
            if at == snapshot_at {
                other = ClusterState::decode(&other.encode()).expect("our own bytes");
            }
            let at = Revision(at as u64 + 10);
            // What is read from the log is what was proposed.
            let read = Envelope::decode(&envelope.encode()).expect("our own bytes");
            prop_assert_eq!(&read, envelope);
            prop_assert_eq!(one.apply(at, envelope), other.apply(at, &read));
            prop_assert_eq!(&one, &other);
        }
        prop_assert_eq!(one.encode(), other.encode());
    }

    #[test]
    fn a_proposal_is_applied_once(log in any_log(), from_nothing in any::<bool>()) {
        let start = if from_nothing { ClusterState::default() } else { founded() };
        let mut naive = Naive { state: start.clone(), ..Naive::default() };
        let mut state = start;
        for (at, envelope) in log.iter().enumerate() {
            let at = Revision(at as u64 + 10);
            let (answer, wanted) = (state.apply(at, envelope), naive.apply(at, envelope));
            prop_assert_eq!(&answer, &wanted);
            prop_assert_eq!(visible(&state), visible(&naive.state));
        }
    }

    /// Whatever stands in the log, and whoever may have written it.
    #[test]
    fn what_must_never_be_is_never(log in any_log()) {
        let mut state = founded();
        // The pool's deciding specification under each epoch that its name ever bore.
        let mut rings: BTreeMap<(PoolName, Epoch), RingSpec> = BTreeMap::new();
        let mut epochs: BTreeMap<PoolName, (Epoch, Epoch)> = BTreeMap::new();
        let mut nonces: BTreeMap<NodeId, Nonce> = BTreeMap::new();
        for (at, envelope) in log.iter().enumerate() {
            let before = state.clone();
            let at = Revision(at as u64 + 10);
            let answer = state.apply(at, envelope);
            match &answer {
                Ok(applied) if !applied.repeated => {
                    prop_assert_eq!(state.revision(), at);
                    prop_assert_eq!(applied.revision, at);
                    let last = state.history().last().expect("just added").revision;
                    prop_assert_eq!(last, at);
                }
                _ => prop_assert_eq!(visible(&state), visible(&before)),
            }
            for (name, pool) in state.pools() {
                let deciding = pool.ring_spec().deciding();
                let known = rings.entry((name.clone(), pool.epoch)).or_insert(deciding.clone());
                prop_assert_eq!(&*known, &deciding, "one epoch, one ring");
                let (epoch, barrier) =
                    epochs.insert(name.clone(), (pool.epoch, pool.barrier)).unwrap_or_default();
                prop_assert!(epoch <= pool.epoch && barrier <= pool.barrier);
                prop_assert!(pool.barrier <= pool.epoch);
                for (shard, verdict) in &pool.verdicts {
                    prop_assert!(pool.shards.contains_key(shard) && !verdict.is_clear());
                }
            }
            for (id, node) in state.nodes() {
                let nonce = *nonces.entry(*id).or_insert(node.nonce);
                prop_assert_eq!(nonce, node.nonce, "an id is given once");
                let was = before.nodes().get(id).map_or(Incarnation(0), |was| was.incarnation);
                prop_assert!(was <= node.incarnation);
                for (_, other) in state.nodes().iter().filter(|(other, _)| *other != id) {
                    prop_assert!(other.name != node.name && other.address != node.address);
                    prop_assert!(other.nonce != node.nonce);
                }
            }
            prop_assert!(state.nodes().values().any(|node| node.role == Role::Voter));
            prop_assert!(state.feature_level() >= before.feature_level());
        }
    }

    /// The rings of epochs that have passed are what they were.
    #[test]
    fn past_epochs_are_remembered(log in any_log()) {
        let mut state = founded();
        let rings_of = |state: &ClusterState| -> Vec<((PoolName, Epoch), RingSpec)> {
            let ring = |(name, pool): (&PoolName, &Arc<PoolState>)| {
                ((name.clone(), pool.epoch), pool.ring_spec())
            };
            state.pools().iter().map(ring).collect()
        };
        let mut rings: BTreeMap<_, _> = rings_of(&state).into_iter().collect();
        for (at, envelope) in log.iter().enumerate() {
            let _: Result<Applied, Refusal> = state.apply(Revision(at as u64 + 10), envelope);
            rings.extend(rings_of(&state));
            for (name, pool) in state.pools() {
                let known = pool.past.iter().map(|past| past.epoch).chain([pool.epoch]);
                let first = pool.epoch.0 + 1 - (pool.past.len() as u64 + 1);
                prop_assert!(known.eq((first..=pool.epoch.0).map(Epoch)), "without a gap");
                prop_assert!(pool.past.len() <= PAST_EPOCHS_MAX);
                for past in &pool.past {
                    prop_assert_eq!(&past.ring_spec(pool), &rings[&(name.clone(), past.epoch)]);
                }
            }
        }
    }
}

fn answer(pools: usize) -> Result<Applied, Refusal> {
    let pools = (0..pools)
        .map(|n| PoolEpochs { pool: pool_name(&format!("p{n}")), before: None, after: None })
        .collect();
    Ok(Applied { pools, ..Applied::default() })
}

fn is_superseded(session: &Session, sequence: u64) -> bool {
    session.look_up(&id(1, 1, sequence)).is_err()
}

#[test]
fn a_session_forgets_what_is_far_behind() {
    let mut session = Session::new(Incarnation(1));
    for sequence in 1..=WINDOW_MAX {
        session.remember(sequence, answer(1));
    }
    assert!(is_superseded(&session, 0) && !is_superseded(&session, 1));
    // A number that never came is forgotten with its neighbours: whoever brings it now is late.
    session.remember(WINDOW_MAX + 10, answer(1));
    assert!(is_superseded(&session, 10) && !is_superseded(&session, 11));
    session.remember(u64::MAX, answer(1));
    assert!(is_superseded(&session, u64::MAX - WINDOW_MAX));
    assert!(!is_superseded(&session, u64::MAX - WINDOW_MAX + 1));
}

#[test]
fn large_answers_make_a_session_short() {
    let mut session = Session::new(Incarnation(1));
    for sequence in 1..=10 {
        session.remember(sequence, answer(POOLS_MAX));
    }
    assert!(is_superseded(&session, 7) && !is_superseded(&session, 8));
    session.remember(11, answer(10_000));
    assert!(is_superseded(&session, 10) && !is_superseded(&session, 11));
}

/// The first copy was refused; meanwhile what it asked for would be possible. The second copy must
/// not succeed: its proposer may have told somebody that it did not.
#[test]
fn a_refusal_is_remembered() {
    let mut state = founded();
    let remove = envelope(Some(id(1, 1, 1)), Command::RemovePool { pool: pool_name("later") });
    let create = Command::CreatePool {
        pool: pool_name("later"),
        spec: pool(8),
        shards: vec![(shard_id("a"), shard("east", 1))],
    };
    let refused = Err(Refusal::NoPool(pool_name("later")));
    assert_eq!(state.apply(Revision(10), &remove), refused);
    state.apply(Revision(11), &envelope(Some(id(1, 1, 2)), create)).expect("created");
    assert_eq!(state.apply(Revision(12), &remove), refused);
    assert_eq!(state.revision(), Revision(11));
}

#[test]
fn much_history_is_kept_and_no_more() {
    let mut state = founded();
    let verdicts = |down: bool| {
        let verdict = Verdict { reads_down: down, writes_down: down, foreign: false };
        Command::SetVerdicts {
            term: Term(1),
            verdicts: vec![(pool_name("p"), shard_id("a"), verdict)],
        }
    };
    for at in 10..10 + 2 * HISTORY_MAX as u64 {
        state.apply(Revision(at), &envelope(None, verdicts(at % 2 == 0))).expect("a verdict");
    }
    assert_eq!(state.history().len(), 3 + ROUTINE_MAX, "the founding is not pushed out");
    for at in 10_000..10_000 + 2 * HISTORY_MAX as u64 {
        state.apply(Revision(at), &envelope(None, Command::Unstage)).expect("nothing");
    }
    assert_eq!(state.history().len(), HISTORY_MAX + ROUTINE_MAX);
    assert!(state.history().is_sorted_by_key(|record| record.revision));
}

/// 300 pools come and go: what is not remembered by name any more still bears no epoch twice.
#[test]
fn epochs_of_forgotten_names_are_not_given_again() {
    let mut state = ClusterState::default();
    let create = |name: &str, weights: &[u64]| Command::CreatePool {
        pool: pool_name(name),
        spec: pool(8),
        shards: (weights.iter().enumerate())
            .map(|(n, units)| (shard_id(&format!("s{n}")), shard("east", *units)))
            .collect(),
    };
    let mut last: BTreeMap<String, Epoch> = BTreeMap::new();
    for round in 0..2 {
        for n in 0..300_u64 {
            let name = format!("p{n}");
            state.apply_command(&create(&name, &[1])).expect("created");
            for units in 2..2 + n % 3 {
                let put = vec![(shard_id("s0"), shard("east", units))];
                let pool = pool_name(&name);
                let command = Command::SetShards { pool, put, remove: vec![] };
                state.apply_command(&command).expect("changed");
            }
            let epoch = state.pools()[&pool_name(&name)].epoch;
            let first = Epoch(epoch.0 - n % 3);
            if let Some(was) = last.insert(name.clone(), epoch) {
                assert!(was < first, "round {round}: {name} was at {was} and begins at {first}");
            }
            state.apply_command(&Command::RemovePool { pool: pool_name(&name) }).expect("gone");
        }
    }
    assert!(state.retired.len() <= 256);
}
