//! The bytes of every version of what is persisted: states, and entries of the log. What is pinned
//! here is never written anew: somebody has it on disk.

use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

use super::*;

proptest! {
    #[test]
    fn bytes_bring_back_the_state(commands in any_commands()) {
        let state = state_of(&commands);
        let bytes = state.encode();
        prop_assert_eq!(ClusterState::decode(&bytes).expect("our own bytes"), state);
        // What is cut off is never taken for something smaller.
        for end in 0..bytes.len() {
            prop_assert!(ClusterState::decode(&bytes[..end]).is_err());
        }
    }
}

/// The bytes of version 1, as the first release wrote them.
const VERSION_1: &str = r#"{
  "version": "1",
  "revision": 3,
  "pools": {
    "objects": {
      "epoch": 1,
      "spec": {
        "kind": "cache",
        "placement": "ring",
        "hash_seed": "seed",
        "vnodes": 256,
        "immutable": true
      },
      "shards": {
        "s1": {
          "url": "http://shard.example:8080/base",
          "zone": "east",
          "weight": 1,
          "state": "ready"
        },
        "s2": {
          "url": "http://shard.example:8080/base",
          "zone": "west",
          "weight": 2,
          "state": "maint"
        }
      }
    }
  },
  "retired": {
    "gone": 1
  }
}"#;

#[test]
fn version_1_stays_readable() {
    assert_eq!(ClusterState::decode(VERSION_1.as_bytes()).expect("version 1"), small_state());
}

/// The bytes of version 2, of a state that has some of everything.
const VERSION_2: &str = include_str!("version_2.json");

/// A state that has some of everything.
fn rich_state() -> ClusterState {
    let mut state = founded();
    for (at, envelope) in (10..).zip(samples()) {
        let _: Result<Applied, Refusal> = state.apply(Revision(at), &envelope);
    }
    state
}

#[test]
fn version_2_stays_readable_and_is_what_we_write() {
    let state = ClusterState::decode(VERSION_2.as_bytes()).expect("version 2");
    assert_eq!(String::from_utf8(state.encode()).expect("JSON"), VERSION_2.trim_end());
    // What is told of the past may be worded otherwise by now.
    let told_otherwise = ClusterState { history: rich_state().history, ..state.clone() };
    assert_eq!(told_otherwise, rich_state());
    let ClusterState {
        revision: _,
        identity,
        alone: _,
        feature_level: _,
        settings: _,
        lease_longest_ms,
        nodes,
        last_node: _,
        removed,
        sessions,
        pools,
        retired,
        retired_floor: _,
        staged,
        history,
    } = &state;
    assert!(identity.is_some() && *lease_longest_ms > 0 && nodes.len() > 1 && !removed.is_empty());
    assert!(sessions.len() > 1 && !retired.is_empty() && !staged.is_empty());
    assert!(!history.records().is_empty());
    assert!(pools.values().any(|pool| !pool.past.is_empty() && !pool.verdicts.is_empty()));
    assert!(pools.values().any(|pool| pool.barrier > Epoch(0)));
}

#[test]
fn what_this_release_does_not_understand_is_refused() {
    for (known, other) in [
        (r#""revision": 3"#, r#""revision": 3, "lease": 7"#),
        (r#""immutable": true"#, r#""immutable": true, "mode": "many""#),
        (r#""state": "maint""#, r#""state": "maint", "store": "x""#),
        (r#""state": "maint""#, r#""state": "drain""#),
        (r#""weight": 2"#, r#""weight": 257"#),
        (r#""s1": {"#, r#""no name": {"#),
    ] {
        assert!(VERSION_1.contains(known), "{known}");
        let text = VERSION_1.replacen(known, other, 1);
        let error = ClusterState::decode(text.as_bytes()).expect_err(other);
        assert!(matches!(error, StateError::Unreadable(_)), "{other}: {error}");
    }
    for (known, other) in [
        (r#""revision":"#, r#""lease":7,"revision":"#),
        (r#""lease_ms":"#, r#""lease":7,"lease_ms":"#),
        (r#""role":"voter""#, r#""role":"voter","store":"x""#),
        (r#""role":"voter""#, r#""role":"witness""#),
        (r#""forgotten":"#, r#""lease":7,"forgotten":"#),
        (r#""reads_down":"#, r#""catching_up":true,"reads_down":"#),
        (r#""at_ms":"#, r#""why":"x","at_ms":"#),
        (r#""generation":1"#, r#""generation":1,"name":"x""#),
    ] {
        assert!(VERSION_2.contains(known), "{known}");
        let text = VERSION_2.replacen(known, other, 1);
        let error = ClusterState::decode(text.as_bytes()).expect_err(other);
        assert!(matches!(error, StateError::Unreadable(_)), "{other}: {error}");
    }
    let later = VERSION_1.replacen(r#""version": "1""#, r#""version": "3""#, 1);
    let error = ClusterState::decode(later.as_bytes()).expect_err("a later release");
    assert!(matches!(error, StateError::Version(_)), "{error}");
    let nobody = VERSION_1.replace(r#""weight": 1"#, r#""weight": 0"#);
    let nobody = nobody.replace(r#""weight": 2"#, r#""weight": 0"#);
    let error = ClusterState::decode(nobody.as_bytes()).expect_err("no ring");
    assert!(matches!(error, StateError::Ring { .. }), "{error}");
}

/// The bytes of encoding 1 behind its first byte, one line for each of [`samples`].
const ENVELOPES_1: &str = include_str!("envelopes_1.jsonl");

/// Which kind of command it is. A new kind is a new number here, and a new sample.
fn kind(command: &Command) -> usize {
    match command {
        Command::CreatePool { .. } => 0,
        Command::SetPool { .. } => 1,
        Command::RemovePool { .. } => 2,
        Command::SetShards { .. } => 3,
        Command::Found { .. } => 4,
        Command::AddNode { .. } => 5,
        Command::SetNode { .. } => 6,
        Command::RemoveNode { .. } => 7,
        Command::BeginIncarnation { .. } => 8,
        Command::SetVerdicts { .. } => 9,
        Command::RaiseBarriers { .. } => 10,
        Command::SetSettings { .. } => 11,
        Command::RaiseFeatureLevel { .. } => 12,
        Command::Stage { .. } => 13,
        Command::Unstage => 14,
        Command::ApplyPlan { .. } => 15,
        Command::ChangeNow { .. } => 16,
        Command::MarkFilled { .. } => 17,
        Command::BindStore { .. } => 18,
        Command::MarkStore { .. } => 19,
        Command::Placed { .. } => 20,
        Command::AdoptPool { .. } => 21,
    }
}

/// Those of the first levels; the others are in `kept`.
const KINDS: usize = 17;

/// The same of changes.
fn change_kind(change: &Change) -> usize {
    match change {
        Change::AddShard { .. } => 0,
        Change::RemoveShard { .. } => 1,
        Change::SetWeight { .. } => 2,
        Change::SetZone { .. } => 3,
        Change::SetUrl { .. } => 4,
        Change::SetState { .. } => 5,
        Change::CreatePool { .. } => 6,
        Change::SetPool { .. } => 7,
        Change::RemovePool { .. } => 8,
        Change::ReplaceShard { .. } => 9,
        Change::DropPool { .. } => 10,
    }
}

const CHANGE_KINDS: usize = 9;

/// Commands of each kind, which have something to do in a cluster that was just founded.
fn samples() -> Vec<Envelope> {
    let p = || pool_name("p");
    let (a, c) = (|| shard_id("a"), || shard_id("c"));
    let add = |name: &str, role: Role, nonce: u8| Command::AddNode {
        name: node_name(name),
        address: address(&format!("{name}:7000")),
        role,
        nonce: Nonce([nonce; 16]),
    };
    let changes = vec![
        Change::AddShard { pool: p(), shard: c(), spec: shard("west", 2) },
        Change::SetWeight { pool: p(), shard: a(), weight: weight(3) },
        Change::SetZone { pool: p(), shard: a(), zone: Zone::new("west").expect("a name") },
        Change::SetUrl {
            pool: p(),
            shard: c(),
            url: BaseUrl::parse("http://[::1]:81/base").expect("a URL"),
        },
        Change::SetState { pool: p(), shard: c(), state: AdminState::Maint },
        Change::RemoveShard { pool: p(), shard: shard_id("b") },
        Change::CreatePool {
            pool: pool_name("new"),
            spec: PoolSpec { mode: Mode::Primary, ..pool(8) },
            shards: vec![(a(), shard("east", 1))],
        },
        Change::SetPool { pool: p(), spec: PoolSpec { immutable: true, ..pool(16) } },
        Change::RemovePool { pool: pool_name("q") },
    ];
    let commands = vec![
        found(),
        add("n2", Role::Voter, 2),
        add("n3", Role::Observer, 3),
        Command::BeginIncarnation {
            node: NodeId(2),
            after: Incarnation(0),
            address: address("[::1]:7000"),
            version: "0.1.0".to_owned(),
            feature_level: FeatureLevel(1),
        },
        Command::SetNode {
            node: NodeId(2),
            name: Some(node_name("n2.example")),
            address: None,
            role: Some(Role::Observer),
        },
        Command::RemoveNode { node: NodeId(3) },
        Command::CreatePool {
            pool: pool_name("old"),
            spec: pool(8),
            shards: vec![(a(), shard("east", 1))],
        },
        Command::SetPool { pool: p(), spec: PoolSpec { mode: Mode::Primary, ..pool(8) } },
        Command::RemovePool { pool: pool_name("old") },
        Command::SetShards { pool: p(), put: vec![(a(), shard("east", 2))], remove: vec![] },
        Command::SetVerdicts {
            term: Term(3),
            verdicts: vec![(
                p(),
                a(),
                Verdict { reads_down: false, writes_down: true, foreign: false },
            )],
        },
        Command::RaiseBarriers { term: Term(3), barriers: vec![(p(), Epoch(2))] },
        Command::SetSettings { settings: Settings { lease_ms: 20_000, ..Settings::default() } },
        Command::RaiseFeatureLevel { level: FeatureLevel(1) },
        Command::Stage { changes: changes.clone() },
        Command::Unstage,
        Command::Stage { changes: changes[..3].to_vec() },
        Command::ApplyPlan { plan: PlanId([1, 2, 3, 4, 5, 6, 7, 8]) },
        Command::ChangeNow { changes: changes[6..8].to_vec() },
    ];
    let with_id = |(sequence, command): (u64, Command)| {
        let numbered = !matches!(kind(&command), 4 | 5 | 8);
        Envelope {
            id: numbered.then(|| id(1, 1, sequence)),
            actor: Actor::new("admin@n1 (ada)").expect("printable"),
            at_ms: 1_795_000_000_000,
            command,
        }
    };
    (1..).zip(commands).map(with_id).collect()
}

#[test]
fn encoding_1_of_entries_stays_readable_and_is_what_we_write() {
    let samples = samples();
    let kinds: std::collections::BTreeSet<usize> =
        samples.iter().map(|envelope| kind(&envelope.command)).collect();
    assert!(kinds.into_iter().eq(0..KINDS));
    let changes = samples.iter().filter_map(|envelope| match &envelope.command {
        Command::Stage { changes } => Some(changes),
        _ => None,
    });
    let kinds: std::collections::BTreeSet<usize> = changes.flatten().map(change_kind).collect();
    assert!(kinds.into_iter().eq(0..CHANGE_KINDS));

    let lines: Vec<&str> = ENVELOPES_1.lines().collect();
    assert_eq!(lines.len(), samples.len());
    for (line, envelope) in lines.iter().zip(samples) {
        let pinned = [b"\x01", line.as_bytes()].concat();
        assert_eq!(Envelope::decode(&pinned).expect("encoding 1"), envelope);
        assert_eq!(String::from_utf8(envelope.encode()), String::from_utf8(pinned));
    }
}

#[test]
fn entries_that_are_none_are_refused() {
    assert!(matches!(Envelope::decode(b""), Err(EnvelopeError::Empty)));
    assert!(matches!(Envelope::decode(b"\x02{}"), Err(EnvelopeError::Version(2))));
    let line = ENVELOPES_1.lines().next().expect("a line");
    for (known, other) in [
        (r#""actor":"#, r#""why":"x","actor":"#),
        (r#""actor":"admin@n1 (ada)""#, r#""actor":"""#),
        (r#""found":{"#, r#""found":{"why":"x","#),
        (r#""found":{"#, r#""find":{"#),
        (r#""at_ms":1"#, r#""at_ms":-1"#),
    ] {
        assert!(line.contains(known), "{known}");
        let text = format!("\x01{}", line.replacen(known, other, 1));
        let error = Envelope::decode(text.as_bytes()).expect_err(other);
        assert!(matches!(error, EnvelopeError::Unreadable(_)), "{other}: {error}");
    }
}
