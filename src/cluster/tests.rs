//! What the tests of this room are made of: names, pools, commands that meet each other, and the
//! states that they lead to.

mod kept;
mod ketama;
mod log;
mod nodes;
mod persisted;
mod plans;
mod pools;
mod topology;

use proptest::prelude::{Strategy, any, prop, prop_compose, prop_oneof};
use proptest::sample::select;

use super::*;
use crate::ids::{
    BaseUrl, ClusterId, CommandId, Epoch, FeatureLevel, Incarnation, KetamaName, NodeId, NodeName,
    Nonce, PeerAddress, PlanId, PoolName, Revision, ShardId, Term, Weight, Zone,
};

fn pool_name(name: &str) -> PoolName {
    PoolName::new(name).expect("a plain name")
}

fn shard_id(id: &str) -> ShardId {
    ShardId::new(id).expect("a plain name")
}

fn weight(units: u64) -> Weight {
    Weight::try_from(units).expect("a weight in range")
}

fn shard(zone: &str, units: u64) -> ShardSpec {
    ShardSpec {
        url: BaseUrl::parse("http://shard.example:8080/base").expect("a URL"),
        zone: Zone::new(zone).expect("a plain name"),
        weight: weight(units),
        state: AdminState::Ready,
        ketama_name: None,
    }
}

fn pool(vnodes: u16) -> PoolSpec {
    PoolSpec {
        kind: Kind::Cache,
        placement: Placement::Ring,
        hash_seed: "seed".to_owned(),
        vnodes,
        immutable: false,
        mode: Mode::Any,
        kept: None,
    }
}

/// Few names, so that commands meet; weights and virtual nodes up to the greatest, so that the
/// limit on tokens is met too.
fn any_pool_name() -> impl Strategy<Value = PoolName> {
    select(vec!["p", "q"]).prop_map(pool_name)
}

fn any_shard_id() -> impl Strategy<Value = ShardId> {
    select(vec!["a", "b", "c", "d"]).prop_map(shard_id)
}

prop_compose! {
    fn any_shard()(
        url in select(vec!["http://one", "http://two:81/base", "http://[::1]:8080"]),
        zone in select(vec!["east", "west"]),
        units in select(vec![0_u64, 1, 2, 256]),
        maint in any::<bool>(),
        name in select(vec![None, None, None, Some("k1:80"), Some("k2"), Some("one:80")]),
    ) -> ShardSpec {
        ShardSpec {
            ketama_name: name.map(|name| KetamaName::new(name).expect("a name")),
            url: BaseUrl::parse(url).expect("a URL"),
            state: if maint { AdminState::Maint } else { AdminState::Ready },
            ..shard(zone, units)
        }
    }
}

fn any_pool(seeds: Vec<&'static str>) -> impl Strategy<Value = PoolSpec> {
    let placements = vec![Placement::Ring, Placement::Ring, Placement::Ketama];
    let vnodes = select(vec![0_u16, 1, 2, 16_384, u16::MAX]);
    (select(seeds), select(placements), vnodes, any::<bool>()).prop_map(
        |(seed, placement, vnodes, immutable)| PoolSpec {
            placement,
            hash_seed: seed.to_owned(),
            immutable,
            ..pool(vnodes)
        },
    )
}

fn any_shards() -> impl Strategy<Value = Vec<(ShardId, ShardSpec)>> {
    prop::collection::vec((any_shard_id(), any_shard()), 0..4)
}

fn any_command() -> impl Strategy<Value = Command> {
    let seeds = || any_pool(vec!["seed", "seed", "seed", "other"]);
    prop_oneof![
        (any_pool_name(), seeds(), any_shards())
            .prop_map(|(pool, spec, shards)| Command::CreatePool { pool, spec, shards }),
        (any_pool_name(), seeds()).prop_map(|(pool, spec)| Command::SetPool { pool, spec }),
        any_pool_name().prop_map(|pool| Command::RemovePool { pool }),
        (any_pool_name(), any_shards(), prop::collection::vec(any_shard_id(), 0..3))
            .prop_map(|(pool, put, remove)| Command::SetShards { pool, put, remove }),
    ]
}

fn any_commands() -> impl Strategy<Value = Vec<Command>> {
    prop::collection::vec(any_command(), 0..40)
}

/// What somebody could want, and get: each pool has a ring.
fn any_desired() -> impl Strategy<Value = Desired> {
    let pool =
        (any_pool(vec!["seed"]), prop::collection::btree_map(any_shard_id(), any_shard(), 1..5))
            .prop_map(|(spec, shards)| DesiredPool { spec, shards })
            .prop_filter("no ring", |pool| {
                pool::ring_spec(&pool.spec, &pool.shards).check().is_ok()
            });
    prop::collection::btree_map(any_pool_name(), pool, 0..3)
}

/// The state that a list of commands leads to, refused ones passed over.
fn state_of(commands: &[Command]) -> ClusterState {
    let mut state = ClusterState::default();
    for command in commands {
        let _: Result<Applied, Refusal> = state.apply_command(command);
    }
    state
}

/// The state's pools without their epochs.
fn as_desired(state: &ClusterState) -> Desired {
    state
        .pools()
        .iter()
        .map(|(name, pool)| {
            let (spec, shards) = (pool.spec.clone(), pool.shards.clone());
            (name.clone(), DesiredPool { spec, shards })
        })
        .collect()
}

/// A pool under construction and one that was removed.
fn small_state() -> ClusterState {
    let maint = ShardSpec { state: AdminState::Maint, ..shard("west", 2) };
    state_of(&[
        Command::CreatePool {
            pool: pool_name("objects"),
            spec: PoolSpec { immutable: true, ..pool(256) },
            shards: vec![(shard_id("s1"), shard("east", 1)), (shard_id("s2"), maint)],
        },
        Command::CreatePool {
            pool: pool_name("gone"),
            spec: pool(16),
            shards: vec![(shard_id("s1"), shard("default", 1))],
        },
        Command::RemovePool { pool: pool_name("gone") },
    ])
}

fn node_name(name: &str) -> NodeName {
    NodeName::new(name).expect("a plain name")
}

fn address(text: &str) -> PeerAddress {
    PeerAddress::parse(text).expect("an address")
}

fn id(node: u64, incarnation: u64, sequence: u64) -> CommandId {
    CommandId { node: NodeId(node), incarnation: Incarnation(incarnation), sequence }
}

fn envelope(id: Option<CommandId>, command: Command) -> Envelope {
    Envelope { id, actor: Actor::new("admin@n1").expect("printable"), at_ms: 1_000, command }
}

fn found() -> Command {
    Command::Found {
        cluster: ClusterId([7; 16]),
        node: node_name("n1"),
        address: address("n1:7000"),
        settings: Settings::default(),
    }
}

/// A cluster with a pool `p` of two shards and a pool `q` of one.
fn founded() -> ClusterState {
    let mut state = ClusterState::default();
    let create = |name: &str, shards: &[&str]| Command::CreatePool {
        pool: pool_name(name),
        spec: pool(8),
        shards: shards.iter().map(|id| (shard_id(id), shard("east", 1))).collect(),
    };
    for (at, command) in [found(), create("p", &["a", "b"]), create("q", &["a"])].iter().enumerate()
    {
        let at = Revision(at as u64 + 1);
        state.apply(at, &envelope(None, command.clone())).expect("a new cluster");
    }
    state
}

fn any_change() -> impl Strategy<Value = Change> {
    let at = || (any_pool_name(), any_shard_id());
    prop_oneof![
        (at(), any_shard()).prop_map(|((pool, shard), spec)| Change::AddShard {
            pool,
            shard,
            spec
        }),
        at().prop_map(|(pool, shard)| Change::RemoveShard { pool, shard }),
        (at(), select(vec![0, 1, 2, 256])).prop_map(|((pool, shard), units)| {
            Change::SetWeight { pool, shard, weight: weight(units) }
        }),
        (at(), any_shard())
            .prop_map(|((pool, shard), spec)| { Change::SetZone { pool, shard, zone: spec.zone } }),
        (at(), any_shard())
            .prop_map(|((pool, shard), spec)| { Change::SetUrl { pool, shard, url: spec.url } }),
        (at(), any_shard()).prop_map(|((pool, shard), spec)| {
            Change::SetState { pool, shard, state: spec.state }
        }),
        (any_pool_name(), any_pool(vec!["seed"]), any_shards())
            .prop_map(|(pool, spec, shards)| Change::CreatePool { pool, spec, shards }),
        (any_pool_name(), any_pool(vec!["seed", "other"]))
            .prop_map(|(pool, spec)| Change::SetPool { pool, spec }),
        any_pool_name().prop_map(|pool| Change::RemovePool { pool }),
    ]
}

/// Commands about nodes, few of them, so that they meet.
fn any_node_command() -> impl Strategy<Value = Command> {
    let node = || (0_u64..5).prop_map(NodeId);
    let name = || select(vec!["n1", "n2", "n3"]).prop_map(node_name);
    let place = || select(vec!["n1:7000", "n2:7000", "n3:7000"]).prop_map(address);
    let role = || select(vec![Role::Voter, Role::Observer]);
    let level = || select(vec![0, 1, 2, u64::MAX]).prop_map(FeatureLevel);
    prop_oneof![
        any::<bool>().prop_map(|other| match (found(), other) {
            (Command::Found { node, address, settings, .. }, true) => {
                Command::Found { cluster: ClusterId([8; 16]), node, address, settings }
            }
            (found, _) => found,
        }),
        (name(), place(), role(), 0_u8..5).prop_map(|(name, address, role, nonce)| {
            Command::AddNode { name, address, role, nonce: Nonce([nonce; 16]) }
        }),
        (node(), prop::option::of(name()), prop::option::of(place()), prop::option::of(role()))
            .prop_map(|(node, name, address, role)| Command::SetNode { node, name, address, role }),
        node().prop_map(|node| Command::RemoveNode { node }),
        (node(), 0_u64..3, place(), level()).prop_map(|(node, after, address, feature_level)| {
            let (after, version) = (Incarnation(after), "1.0".to_owned());
            Command::BeginIncarnation { node, after, address, version, feature_level }
        }),
        level().prop_map(|level| Command::RaiseFeatureLevel { level }),
        select(vec![0, 5_000, u64::MAX]).prop_map(|lease_ms| Command::SetSettings {
            settings: Settings { lease_ms, ..Settings::default() }
        }),
    ]
}

fn any_agreed_command() -> impl Strategy<Value = Command> {
    let verdict = (any_pool_name(), any_shard_id(), any::<bool>(), any::<bool>()).prop_map(
        |(pool, shard, reads_down, writes_down)| {
            (pool, shard, Verdict { reads_down, writes_down, foreign: false })
        },
    );
    let barrier = (any_pool_name(), (0_u64..6).prop_map(Epoch));
    let some_changes = || prop::collection::vec(any_change(), 0..4);
    prop_oneof![
        prop::collection::vec(verdict, 0..4)
            .prop_map(|verdicts| Command::SetVerdicts { term: Term(1), verdicts }),
        prop::collection::vec(barrier, 0..3)
            .prop_map(|barriers| Command::RaiseBarriers { term: Term(1), barriers }),
        some_changes().prop_map(|changes| Command::Stage { changes }),
        proptest::prelude::Just(Command::Unstage),
        any::<[u8; 8]>().prop_map(|plan| Command::ApplyPlan { plan: PlanId(plan) }),
        some_changes().prop_map(|changes| Command::ChangeNow { changes }),
    ]
}

fn any_cluster_command() -> impl Strategy<Value = Command> {
    prop_oneof![3 => any_command(), 3 => any_node_command(), 4 => any_agreed_command()]
}

/// Proposals of few numbers by few nodes, so that copies meet, in whatever order.
fn any_envelope() -> impl Strategy<Value = Envelope> {
    let id = (0_u64..4, 0_u64..3, 0_u64..12).prop_map(|(node, start, number)| {
        // Mostly the first node at its first start, or little would be applied.
        if node == 0 { id(1, 1, number) } else { id(node, start, number) }
    });
    (prop::option::weighted(0.7, id), any_cluster_command())
        .prop_map(|(id, command)| envelope(id, command))
}

fn any_log() -> impl Strategy<Value = Vec<Envelope>> {
    prop::collection::vec(any_envelope(), 0..60)
}
