//! How nodes come, vote, begin and go.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

use super::*;

fn node(number: u8, role: Role, began: bool) -> NodeState {
    NodeState {
        name: node_name(&format!("n{number}")),
        address: address(&format!("n{number}:7000")),
        role,
        incarnation: Incarnation(u64::from(began)),
        joined: Revision(0),
        version: String::new(),
        feature_level: FeatureLevel(1),
        nonce: Nonce([number; 16]),
    }
}

proptest! {
    #[test]
    fn voters_come_in_pairs_and_stay(
        nodes in prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 0..12),
    ) {
        let all: BTreeMap<NodeId, NodeState> = (1_u8..)
            .zip(&nodes)
            .map(|(n, (voter, began, _))| {
                let role = if *voter { Role::Voter } else { Role::Observer };
                (NodeId(u64::from(n)), node(n, role, *began))
            })
            .collect();
        let current: BTreeSet<NodeId> =
            (1_u64..).zip(&nodes).filter(|(_, node)| node.2).map(|(n, _)| NodeId(n)).collect();
        let chosen = voters(&all, &current);

        let may = |id: &NodeId| {
            all[id].role == Role::Voter && (current.contains(id) || all[id].incarnation.0 > 0)
        };
        let candidates = all.keys().filter(|id| may(id)).count();
        prop_assert!(chosen.iter().all(may));
        prop_assert_eq!(chosen.is_empty(), candidates == 0);
        // An even number is left over where one of an odd number went, and never arises otherwise.
        let left_over = chosen.is_subset(&current) && chosen.len() == candidates;
        prop_assert!(chosen.len() % 2 == 1 || left_over);
        prop_assert!(chosen.len() <= VOTERS_MAX && chosen.len() + 2 > candidates.min(VOTERS_MAX));
        // Nobody is passed over for somebody who comes after.
        for passed in all.keys().filter(|id| may(id) && !chosen.contains(*id)) {
            for id in &chosen {
                let rank = |id: &NodeId| (!current.contains(id), *id);
                prop_assert!(rank(id) < rank(passed));
            }
        }
        // Asked again with what it said, it says the same.
        prop_assert_eq!(voters(&all, &chosen), chosen);
    }
}

fn add(name: &str, nonce: u8) -> Command {
    Command::AddNode {
        name: node_name(name),
        address: address(&format!("{name}:7000")),
        role: Role::Voter,
        nonce: Nonce([nonce; 16]),
    }
}

fn begin(node: u64, after: u64, name: &str) -> Command {
    Command::BeginIncarnation {
        node: NodeId(node),
        after: Incarnation(after),
        address: address(&format!("{name}:7000")),
        version: "0.1.0".to_owned(),
        feature_level: FEATURE_LEVEL,
    }
}

/// Applies commands one after the other, without ids.
struct Log(ClusterState);

impl Log {
    fn give(&mut self, command: &Command) -> Result<Applied, Refusal> {
        let at = self.0.revision().next();
        self.0.apply(at, &envelope(None, command.clone()))
    }
}

#[test]
fn a_node_joins_once_however_often_it_asks() {
    let mut log = Log(founded());
    let first = log.give(&add("n2", 2)).expect("added");
    let again = log.give(&add("n2", 2)).expect("the same once more");
    assert_eq!((first.node, first.repeated), (Some(NodeId(2)), false));
    assert_eq!((again.node, again.repeated), (Some(NodeId(2)), true));
    // A copy that comes after the node was removed does not bring it back.
    log.give(&Command::RemoveNode { node: NodeId(2) }).expect("removed");
    assert_eq!(log.give(&add("n2", 2)), Err(Refusal::NodeRemoved(NodeId(2))));
    // With an empty folder it is somebody else.
    assert_eq!(log.give(&add("n2", 3)).expect("added").node, Some(NodeId(3)));
    assert!(log.0.was_removed(NodeId(2)) && !log.0.was_removed(NodeId(3)));
    assert!(!log.0.was_removed(NodeId(0)) && !log.0.was_removed(NodeId(4)));
}

#[test]
fn a_late_copy_of_a_start_deposes_nobody() {
    let mut log = Log(founded());
    let first = log.give(&begin(1, 1, "n1")).expect("began");
    assert_eq!(first.incarnation, Some(Incarnation(2)));
    let moved = Refusal::IncarnationMoved { node: NodeId(1), now: Incarnation(2) };
    assert_eq!(log.give(&begin(1, 1, "n1")), Err(moved));
    // What the earlier start proposes is too late as well.
    let late = envelope(Some(id(1, 1, 1)), Command::Unstage);
    assert_eq!(log.0.apply(Revision(100), &late), Err(Refusal::Superseded));
    let timely = envelope(Some(id(1, 2, 1)), Command::Unstage);
    assert!(log.0.apply(Revision(101), &timely).is_ok());
}

#[test]
fn nodes_are_few_and_unlike() {
    let mut log = Log(founded());
    for n in 2..=NODES_MAX {
        let nonce = 100 + u8::try_from(n).expect("few");
        log.give(&add(&format!("n{n}"), nonce)).expect("added");
    }
    assert_eq!(log.give(&add("n65", 99)), Err(Refusal::TooMuch(Bound::Nodes)));
    let rename = |name: Option<&str>, place: Option<&str>| Command::SetNode {
        node: NodeId(2),
        name: name.map(node_name),
        address: place.map(address),
        role: None,
    };
    let taken = log.give(&rename(Some("n1"), None)).expect_err("taken");
    assert_eq!(taken, Refusal::NodeNameTaken { name: node_name("n1"), by: NodeId(1) });
    let taken = log.give(&rename(None, Some("n3:7000"))).expect_err("taken");
    assert_eq!(taken, Refusal::AddressTaken { address: address("n3:7000"), by: NodeId(3) });
    let taken = log.give(&begin(2, 0, "n3")).expect_err("taken");
    assert_eq!(taken, Refusal::AddressTaken { address: address("n3:7000"), by: NodeId(3) });
    log.give(&rename(Some("other"), Some("elsewhere:1"))).expect("free");
}

#[test]
fn somebody_always_votes() {
    let mut log = Log(founded());
    let observer = |node: u64| Command::SetNode {
        node: NodeId(node),
        name: None,
        address: None,
        role: Some(Role::Observer),
    };
    let last = Err(Refusal::LastVoter(NodeId(1)));
    assert_eq!(log.give(&Command::RemoveNode { node: NodeId(1) }), last);
    assert_eq!(log.give(&observer(1)), last);
    log.give(&add("n2", 2)).expect("added");
    log.give(&observer(1)).expect("another votes");
    let last = Err(Refusal::LastVoter(NodeId(2)));
    assert_eq!(log.give(&Command::RemoveNode { node: NodeId(2) }), last);
}

#[test]
fn a_level_is_raised_when_all_speak_it() {
    let mut log = Log(founded());
    let raise = |level: u64| Command::RaiseFeatureLevel { level: FeatureLevel(level) };
    let begin_at = |node: u64, after: u64, level: u64| {
        let Command::BeginIncarnation { node, after, address, version, .. } =
            begin(node, after, &format!("n{node}"))
        else {
            unreachable!("made above")
        };
        let feature_level = FeatureLevel(level);
        Command::BeginIncarnation { node, after, address, version, feature_level }
    };
    let behind = |node: u64, speaks: u64, level: u64| {
        Err(Refusal::LevelTooHigh {
            node: NodeId(node),
            speaks: FeatureLevel(speaks),
            level: FeatureLevel(level),
        })
    };
    assert_eq!(log.give(&raise(2)), behind(1, 1, 2));
    log.give(&begin_at(1, 1, 3)).expect("a later release");
    log.give(&add("n2", 2)).expect("added");
    assert_eq!(log.give(&raise(2)), behind(2, 0, 2), "nobody knows what it speaks");
    log.give(&begin_at(2, 0, 2)).expect("began");
    log.give(&raise(2)).expect("all speak it");
    assert_eq!(log.0.feature_level(), FeatureLevel(2));
    // And from here on, whoever does not is kept out.
    assert_eq!(log.give(&begin_at(2, 1, 1)), behind(2, 1, 2));
    let lowered = Refusal::LevelLowered { level: FeatureLevel(1), agreed: FeatureLevel(2) };
    assert_eq!(log.give(&raise(1)), Err(lowered));
}

/// Two of three voters are gone for good, and with them what they alone had agreed on.
#[test]
fn a_cluster_begins_anew_with_who_is_left() {
    let mut log = Log(founded());
    for (node, name) in [(2, "n2"), (3, "n3")] {
        log.give(&add(name, node)).expect("added");
        log.give(&begin(u64::from(node), 0, name)).expect("began");
    }
    let before = log.0.clone();
    let actor = || Actor::new("admin@n2").expect("printable");
    assert_eq!(log.0.begin_anew(NodeId(4), actor(), 0), Err(Refusal::NoNode(NodeId(4))));
    assert_eq!(log.0, before);
    log.0.begin_anew(NodeId(2), actor(), 0).expect("it is there");
    let (old, new) = (before.identity().expect("founded"), log.0.identity().expect("founded"));
    assert_eq!((new.id, new.generation), (old.id, old.generation.next()));
    assert!(log.0.nodes().keys().eq([&NodeId(2)]));
    assert!(log.0.was_removed(NodeId(1)) && log.0.was_removed(NodeId(3)));
    assert_eq!(log.0.pools(), before.pools());
    assert!(log.0.revision() > before.revision());
    // Who was lost may come back only as somebody else; who is left goes on as it was.
    assert_eq!(log.give(&add("n3", 3)), Err(Refusal::NodeRemoved(NodeId(3))));
    assert_eq!(log.give(&add("n3", 4)).expect("added").node, Some(NodeId(4)));
    let goes_on = envelope(Some(id(2, 1, 1)), Command::Unstage);
    assert!(log.0.apply(Revision(100), &goes_on).is_ok());
}
