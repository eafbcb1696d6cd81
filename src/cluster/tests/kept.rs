//! Pools that keep data: what they must be, what may be done with them, and their bytes.

use super::*;
use crate::cluster::pool::ring_spec;
use crate::ids::{Birth, Generation, StoreId};
use crate::level::Level;
use crate::ring::slots::plan;

fn store(number: u8) -> StoreId {
    StoreId([number; 16])
}

fn kept(replicas: u8) -> PoolSpec {
    PoolSpec {
        kind: Kind::Replicated,
        placement: Placement::Balanced,
        kept: Some(KeptSpec {
            replicas,
            consistency: Level::Quorum,
            tombstone_min_age_ms: TOMBSTONE_MIN_AGE_MS_DEFAULT,
            key: "path".to_owned(),
        }),
        ..pool(16)
    }
}

fn create(shards: &[&str]) -> Command {
    let shards = shards.iter().map(|id| (shard_id(id), shard(id, 1))).collect();
    Command::CreatePool { pool: pool_name("p"), spec: kept(3), shards }
}

/// Gives a command as a leader does.
fn give(state: &mut ClusterState, command: Command) -> Result<Applied, Refusal> {
    let command = state.planned(command);
    state.apply_command(&command)
}

fn with_pool(shards: &[&str]) -> ClusterState {
    let mut state = ClusterState::default();
    give(&mut state, create(shards)).expect("a pool");
    state
}

fn bind(id: &str, number: u8) -> Command {
    Command::BindStore { pool: pool_name("p"), shard: shard_id(id), store: store(number) }
}

fn mark(id: &str, number: u8, mark: StoreMark) -> Command {
    Command::MarkStore { pool: pool_name("p"), shard: shard_id(id), store: store(number), mark }
}

fn now(change: Change) -> Command {
    Command::ChangeNow { changes: vec![change] }
}

fn replace(id: &str) -> Command {
    now(Change::ReplaceShard { pool: pool_name("p"), shard: shard_id(id), url: None, lose: false })
}

fn filled() -> Command {
    Command::MarkFilled { pool: pool_name("p") }
}

fn slots(state: &ClusterState) -> &Slots {
    state.pools()[&pool_name("p")].slots().expect("balanced")
}

#[test]
fn kind_placement_and_copies_belong_together() {
    let mut state = ClusterState::default();
    let shards = vec![(shard_id("a"), shard("a", 1))];
    let wrong = [
        PoolSpec { kept: None, ..kept(1) },
        PoolSpec { placement: Placement::Ring, ..kept(1) },
        PoolSpec { immutable: true, ..kept(1) },
        PoolSpec { kind: Kind::Cache, ..kept(1) },
        PoolSpec { placement: Placement::Balanced, ..pool(16) },
    ];
    for spec in wrong {
        let command = Command::CreatePool { pool: pool_name("p"), spec, shards: shards.clone() };
        let refusal = give(&mut state, command).expect_err("half of both");
        assert_eq!(refusal, Refusal::KindAndPlacement(pool_name("p")));
    }
    let few = give(&mut state, create(&["a", "b"])).expect_err("three replicas");
    assert!(matches!(few, Refusal::Ring { .. }), "{few}");
}

/// What a balanced pool had is told as it was, as far back as there is room for it, and never as the
/// plain ring would have it.
#[test]
fn the_tables_of_earlier_epochs_are_known() {
    let mut state = with_pool(&["a", "b", "c", "d"]);
    let pool = pool_name("p");
    let table = |state: &ClusterState| {
        let slots = state.pools()[&pool_name("p")].slots().expect("balanced");
        slots.table().expect("it was planned").digest()
    };
    let mut digests = vec![table(&state)];
    for id in ["e", "f", "g", "h", "i", "j", "k", "l"] {
        let put = vec![(shard_id(id), shard(id, 1))];
        let add = Command::SetShards { pool: pool.clone(), put, remove: vec![] };
        give(&mut state, add).expect("it keeps nothing yet");
        digests.push(table(&state));
    }
    let mut state = ClusterState::decode(&state.encode()).expect("our own");
    let newest = digests.len() as u64;
    let mut forgotten = 0;
    for (epoch, digest) in (1..).zip(&digests) {
        match state.table_at(&pool, Epoch(epoch)) {
            Ok(found) => assert_eq!(found.expect("balanced").0.digest(), *digest),
            Err(NoRing::NoTable { oldest, .. }) => {
                assert!(epoch < oldest.0 && oldest.0 < newest, "{epoch}, {oldest}");
                forgotten += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!((1..newest - 2).contains(&forgotten), "some: {forgotten}");
    for never in [0, newest + 1] {
        let error = state.table_at(&pool, Epoch(never)).expect_err("it never was");
        assert!(matches!(error, NoRing::NoEpoch { .. }), "{error}");
    }
    // Another store in a shard's place makes an epoch, and no other table.
    give(&mut state, filled()).expect("it has data now");
    give(&mut state, bind("a", 1)).expect("its store");
    give(&mut state, replace("a")).expect("a fresh one");
    for epoch in [newest, newest + 1] {
        let found = state.table_at(&pool, Epoch(epoch)).expect("known").expect("balanced");
        assert_eq!(Some(&found.0.digest()), digests.last());
    }
}

/// Nobody plans when a command is applied, and what was planned on another table is not taken.
#[test]
fn a_table_comes_with_the_command_and_fits_one_state_only() {
    let mut state = ClusterState::default();
    let bare = state.apply_command(&create(&["a", "b", "c"])).expect_err("no table");
    assert_eq!(bare, Refusal::NotPlanned(pool_name("p")));
    give(&mut state, create(&["a", "b", "c", "d"])).expect("a pool");
    let first = slots(&state).clone();

    let add = |id: &str| {
        let (pool, shard) = (pool_name("p"), (shard_id(id), shard(id, 1)));
        Command::SetShards { pool, put: vec![shard], remove: vec![] }
    };
    let (one, other) = (state.planned(add("e")), state.planned(add("f")));
    assert_eq!(one.given(), &add("e"));
    state.apply_command(&one).expect("planned on this");
    assert_ne!(slots(&state).digest, first.digest);
    assert_eq!(slots(&state).epoch, Epoch(2));
    let late = state.apply_command(&other).expect_err("planned on what is gone");
    assert_eq!(late, Refusal::TableOvertaken(pool_name("p")));

    // What another machine would compute otherwise stops this one.
    let Command::Placed { command, mut tables } = state.planned(add("f")) else {
        panic!("it needs a table");
    };
    tables[0].digest = HexBytes(vec![0; 32]);
    let twice = Command::Placed { command, tables };
    let stops = state.apply_command(&twice).expect_err("another digest");
    assert!(matches!(stops, Refusal::TableMismatch { .. }), "{stops}");
    let within = Command::Placed { command: Box::new(twice), tables: vec![] };
    assert_eq!(state.apply_command(&within).expect_err("twice"), Refusal::PlacedTwice);
    // An address moves nothing and needs none.
    let moved =
        ShardSpec { url: BaseUrl::parse("http://elsewhere").expect("a URL"), ..shard("e", 1) };
    let put = vec![(shard_id("e"), moved)];
    let address = Command::SetShards { pool: pool_name("p"), put, remove: vec![] };
    assert_eq!(state.planned(address.clone()), address);
    state.apply_command(&address).expect("no table is needed");
    assert_eq!(slots(&state).epoch, Epoch(2));
}

#[test]
fn a_plan_is_what_is_applied_table_included() {
    let mut state = with_pool(&["a", "b", "c", "d"]);
    let add = Change::AddShard { pool: pool_name("p"), shard: shard_id("e"), spec: shard("e", 1) };
    give(&mut state, Command::Stage { changes: vec![add] }).expect("staged");
    let plan = state.plan().expect("a plan");
    // A fifth of three copies each, which is what the new shard has.
    assert_eq!(plan.report[0].moved.thousandths(), 200);
    assert_eq!(plan.report[0].shares[&shard_id("e")].1.thousandths(), 200);
    assert!(plan.report[0].peak_to_mean.1.thousandths() <= 1001);
    let without = state.apply_command(&Command::ApplyPlan { plan: plan.id });
    assert_eq!(without.expect_err("no table"), Refusal::NotPlanned(pool_name("p")));
    give(&mut state, Command::ApplyPlan { plan: plan.id }).expect("what was shown");
    assert_eq!(slots(&state).table().expect("there").shards().len(), 5);
}

#[test]
fn what_is_kept_stays_where_it_is() {
    let mut state = with_pool(&["a", "b", "c", "d"]);
    let p = || pool_name("p");
    give(&mut state, filled()).expect("a first write");
    assert!(state.pools()[&p()].filled);
    give(&mut state, filled()).expect("again");
    let moves = [
        Change::AddShard { pool: p(), shard: shard_id("e"), spec: shard("e", 1) },
        Change::AddShard { pool: p(), shard: shard_id("e"), spec: shard("e", 0) },
        Change::RemoveShard { pool: p(), shard: shard_id("d") },
        Change::SetWeight { pool: p(), shard: shard_id("a"), weight: weight(2) },
        Change::SetZone { pool: p(), shard: shard_id("a"), zone: Zone::default() },
        Change::SetPool { pool: p(), spec: kept(2) },
        Change::SetPool { pool: p(), spec: PoolSpec { vnodes: 32, ..kept(3) } },
    ];
    for change in moves {
        let refusal = give(&mut state, now(change.clone())).expect_err("data would move");
        assert_eq!(refusal, Refusal::KeepsData(p()), "{change}");
        let refusal = give(&mut state, Command::Stage { changes: vec![change] });
        assert_eq!(refusal.expect_err("nor is it staged"), Refusal::KeepsData(p()));
    }
    let lost = give(&mut state, now(Change::RemovePool { pool: p() })).expect_err("lost");
    assert_eq!(lost, Refusal::WouldLose(p()));
    let refusal = give(&mut state, Command::RemovePool { pool: p() }).expect_err("lost");
    assert_eq!(refusal, Refusal::WouldLose(p()));

    let url = BaseUrl::parse("http://elsewhere").expect("a URL");
    let mut spec = kept(3);
    spec.mode = Mode::Primary;
    spec.kept.as_mut().expect("kept").consistency = Level::One;
    for change in [
        Change::SetUrl { pool: p(), shard: shard_id("a"), url },
        Change::SetState { pool: p(), shard: shard_id("a"), state: AdminState::Maint },
        Change::SetPool { pool: p(), spec },
    ] {
        give(&mut state, now(change)).expect("nothing moves");
    }
    assert_eq!(state.pools()[&p()].epoch, Epoch(1));
    // Who says that it shall be lost is believed; the next pool of that name is another.
    give(&mut state, now(Change::DropPool { pool: p() })).expect("dropped");
    give(&mut state, create(&["a", "b", "c"])).expect("anew");
    let anew = &state.pools()[&p()];
    assert!(!anew.filled && anew.stores.is_empty() && anew.epoch == Epoch(2));
    assert_eq!(anew.born.epoch, Epoch(2), "its stores tell it from the former one");
}

/// A shard has one store, and a store one shard.
#[test]
fn a_store_is_bound_once() {
    let mut state = with_pool(&["a", "b", "c"]);
    give(&mut state, bind("a", 1)).expect("the first");
    give(&mut state, bind("a", 1)).expect("again");
    let other = give(&mut state, bind("a", 2)).expect_err("another disk is there");
    assert!(matches!(other, Refusal::StoreBound { .. }), "{other}");
    let taken = give(&mut state, bind("b", 1)).expect_err("it is that of a");
    assert!(matches!(taken, Refusal::StoreTaken { .. }), "{taken}");
    // Of an address it does not hang.
    let url = BaseUrl::parse("http://elsewhere").expect("a URL");
    let moved = Change::SetUrl { pool: pool_name("p"), shard: shard_id("a"), url };
    give(&mut state, now(moved)).expect("moved");
    assert_eq!(state.pools()[&pool_name("p")].store(&shard_id("a")).store, Some(store(1)));
    let mut cache = state_of(&[Command::CreatePool {
        pool: pool_name("p"),
        spec: pool(16),
        shards: vec![(shard_id("a"), shard("a", 1))],
    }]);
    assert_eq!(give(&mut cache, bind("a", 1)), Err(Refusal::NotKept(pool_name("p"))));
    assert_eq!(give(&mut cache, filled()), Err(Refusal::NotKept(pool_name("p"))));
    assert_eq!(give(&mut cache, replace("a")), Err(Refusal::NotKept(pool_name("p"))));
}

/// A disk is lost. The fresh one may not speak for what the old one had acknowledged before repair
/// has filled it, the old one never comes back, and a second one is not given up meanwhile.
#[test]
fn a_replaced_store_is_fresh_until_it_is_filled() {
    let mut state = with_pool(&["a", "b", "c"]);
    for (id, number) in [("a", 1), ("b", 2), ("c", 3)] {
        give(&mut state, bind(id, number)).expect("bound");
    }
    // Nothing is kept yet, so nothing is missing.
    give(&mut state, replace("c")).expect("replaced");
    give(&mut state, bind("c", 4)).expect("bound");
    let of = |state: &ClusterState, id: &str| state.pools()[&pool_name("p")].store(&shard_id(id));
    assert!(!of(&state, "c").fresh && !of(&state, "c").catching_up);

    give(&mut state, filled()).expect("a first write");
    let epoch = state.pools()[&pool_name("p")].epoch;
    give(&mut state, replace("a")).expect("replaced");
    assert_eq!(of(&state, "a").store, None);
    let old = give(&mut state, bind("a", 1)).expect_err("it lacks what came after");
    assert!(matches!(old, Refusal::StoreReplaced { .. }), "{old}");
    give(&mut state, bind("a", 5)).expect("the fresh one");
    let topology = Topology::build(&state, None).expect("a ring");
    let shown = &topology.pools()[0].shards[0];
    assert_eq!((shown.store, shown.catching_up, shown.fresh), (Some(store(5)), true, true));
    // No key moves; but whoever still counts the former store is kept out.
    assert_eq!(state.pools()[&pool_name("p")].epoch, epoch.next());

    let second = give(&mut state, replace("b")).expect_err("two of three would know nothing");
    assert!(matches!(second, Refusal::TooManyFresh { .. }), "{second}");
    // That hints are gone says nothing about what came before the disk.
    let early = give(&mut state, mark("a", 5, StoreMark::CaughtUp)).expect_err("not filled");
    assert!(matches!(early, Refusal::StillFresh { .. }), "{early}");
    let other = give(&mut state, mark("a", 1, StoreMark::Filled)).expect_err("of the old one");
    assert!(matches!(other, Refusal::OtherStore { .. }), "{other}");
    give(&mut state, mark("a", 5, StoreMark::Filled)).expect("filled");
    give(&mut state, replace("b")).expect("now it may be");
    // Who was away only catches up.
    give(&mut state, mark("c", 4, StoreMark::CatchingUp)).expect("hints");
    assert!(of(&state, "c").catching_up && !of(&state, "c").fresh);
    give(&mut state, mark("c", 4, StoreMark::CaughtUp)).expect("none left");
    assert!(!of(&state, "c").catching_up);
}

/// The release before divided the slots a little otherwise, so that the planner of now, given its table,
/// moves copies. `ring replace` had it plan anew: some slots got a shard to which nobody brings what they
/// keep, and which counted as one that knows.
#[test]
fn a_replaced_store_leaves_every_copy_where_it_is_whatever_would_be_planned_now() {
    let listed = |weights: [u64; 5]| -> Vec<(ShardId, ShardSpec)> {
        let shards = ["a", "b", "c", "d", "e"].iter().zip(weights);
        shards.map(|(id, weight)| (shard_id(id), shard(id, weight))).collect()
    };
    let spec =
        |shards: &[(ShardId, ShardSpec)]| ring_spec(&kept(3), &shards.iter().cloned().collect());
    let (shards, otherwise) = (listed([20, 40, 40, 60, 60]), listed([21, 40, 40, 60, 59]));
    let table = plan(None, &spec(&otherwise)).expect("a table");
    let anew = plan(Some(&table), &spec(&shards)).expect("a table");
    assert!(!anew.moved(&table).is_zero(), "the planner of now would leave it alone in any case");

    let mut state = ClusterState::default();
    let tables = vec![TableChange {
        pool: pool_name("p"),
        base: None,
        delta: HexBytes(table.delta_from(None, &spec(&shards)).expect("the same shards")),
        digest: HexBytes(table.digest().0.to_vec()),
    }];
    let create = Command::CreatePool { pool: pool_name("p"), spec: kept(3), shards };
    let placed = Command::Placed { command: Box::new(create), tables };
    state.apply_command(&placed).expect("whoever planned it");
    for (number, id) in (1..).zip(["a", "b", "c", "d", "e"]) {
        give(&mut state, bind(id, number)).expect("bound");
    }
    give(&mut state, filled()).expect("a first write");

    let replaced =
        Change::ReplaceShard { pool: pool_name("p"), shard: shard_id("a"), url: None, lose: false };
    let shown = state.plan_of(std::slice::from_ref(&replaced)).expect("it may be");
    assert!(shown.report.iter().all(|pool| pool.moved.is_zero()), "{:?}", shown.report);
    give(&mut state, now(replaced)).expect("replaced");
    let after = slots(&state);
    assert_eq!((after.epoch, after.table().map(|table| &**table)), (Epoch(2), Some(&table)));
    let read = ClusterState::decode(&state.encode()).expect("our own");
    assert_eq!(slots(&read).table().map(|table| &**table), Some(&table));
}

/// A cluster's pool with its stores and without data, of which all nodes know.
fn bound_in_a_cluster() -> ClusterState {
    let mut state = ClusterState::default();
    give(&mut state, found()).expect("a cluster");
    give(&mut state, create(&["a", "b", "c"])).expect("a pool");
    for (id, number) in [("a", 1), ("b", 2), ("c", 3)] {
        give(&mut state, bind(id, number)).expect("bound");
    }
    all_nodes_have(&mut state);
    state
}

/// All nodes have come to know of the pool as it is.
fn all_nodes_have(state: &mut ClusterState) {
    let epoch = state.pools()[&pool_name("p")].epoch;
    let (term, barriers) = (Term(1), vec![(pool_name("p"), epoch)]);
    give(state, Command::RaiseBarriers { term, barriers }).expect("all nodes have it");
}

/// A pool had its stores, and no data. One was replaced, which moved no epoch; so nobody waited for a node
/// that had not heard of it before a first write went to the fresh one, and that node, which asked the
/// former store and another, told its clients that there was nothing.
#[test]
fn a_store_that_is_replaced_before_the_first_write_is_kept_out_all_the_same() {
    let mut state = bound_in_a_cluster();
    let (before, digest) = (state.pools()[&pool_name("p")].epoch, slots(&state).digest.clone());
    give(&mut state, replace("c")).expect("replaced");
    let after = &state.pools()[&pool_name("p")];
    assert_eq!((after.epoch, after.is_settled()), (before.next(), false));
    assert_eq!(slots(&state).digest, digest);
    give(&mut state, bind("c", 4)).expect("the fresh one");
    assert_eq!(state.pools()[&pool_name("p")].epoch, before.next(), "to be bound moves nothing");
    let early = give(&mut state, filled()).expect_err("some may still ask the former one");
    let epoch = before.next();
    assert_eq!(early, Refusal::NotSettled { pool: pool_name("p"), epoch });
    all_nodes_have(&mut state);
    give(&mut state, filled()).expect("a first write");
    // A shard that had no store yet has nothing to be replaced.
    let mut unbound = with_pool(&["a", "b", "c"]);
    give(&mut unbound, replace("c")).expect("nothing to do");
    assert_eq!(unbound.pools()[&pool_name("p")].epoch, Epoch(1));
}

/// So many may be replaced that each slot keeps as many stores as one of them must have what was
/// acknowledged: of four, two, though no quorum is left meanwhile; of one, none.
#[test]
fn as_many_stores_may_be_replaced_as_others_can_fill() {
    for (replicas, may) in [(2, 1), (3, 1), (4, 2), (5, 2)] {
        let ids = ["a", "b", "c", "d", "e"];
        let shards = &ids[..usize::from(replicas)];
        let mut state = ClusterState::default();
        let listed = shards.iter().map(|id| (shard_id(id), shard(id, 1))).collect();
        let pool = pool_name("p");
        let create = Command::CreatePool { pool, spec: kept(replicas), shards: listed };
        give(&mut state, create).expect("a pool");
        for (number, id) in (1..).zip(shards) {
            give(&mut state, bind(id, number)).expect("bound");
        }
        give(&mut state, filled()).expect("a first write");
        for id in &shards[..may] {
            give(&mut state, replace(id)).expect("the others know");
        }
        let more = give(&mut state, replace(shards[may])).expect_err("nobody would know");
        assert!(matches!(more, Refusal::TooManyFresh { .. }), "{replicas}: {more}");
    }
}

/// A node that had not heard of the replacement still counted the former store, and had writes
/// acknowledged by it that the pass which filled the fresh one never saw.
#[test]
fn in_a_cluster_a_store_is_filled_only_once_every_node_knows_that_it_is_another() {
    let mut state = bound_in_a_cluster();
    give(&mut state, filled()).expect("a first write");
    give(&mut state, replace("a")).expect("replaced");
    give(&mut state, bind("a", 5)).expect("the fresh one");
    let early = give(&mut state, mark("a", 5, StoreMark::Filled)).expect_err("some may not know");
    assert!(matches!(early, Refusal::StillFresh { .. }), "{early}");
    all_nodes_have(&mut state);
    give(&mut state, mark("a", 5, StoreMark::Filled)).expect("filled");
    assert!(!state.pools()[&pool_name("p")].store(&shard_id("a")).fresh);
}

/// A change of pools and shards at once, as a file brings it, step by step.
#[test]
fn a_file_leads_to_more_replicas_and_back() {
    let desired = |replicas: u8, shards: &[&str]| -> Desired {
        let shards = shards.iter().map(|id| (shard_id(id), shard(id, 1))).collect();
        [(pool_name("p"), DesiredPool { spec: kept(replicas), shards })].into()
    };
    let mut state = ClusterState::default();
    let wanted = [
        desired(2, &["a", "b"]),
        desired(4, &["b", "c", "d", "e"]),
        desired(1, &["e"]),
        desired(3, &["x", "y", "z"]),
    ];
    for wanted in wanted {
        for command in changes(&state.clone(), &wanted) {
            give(&mut state, command).expect("each step may be");
        }
        assert_eq!(as_desired(&state), wanted);
        let topology = Topology::build(&state, None).expect("rings");
        let pool = &topology.pools()[0];
        let set = pool.replicas(crate::ids::Token(7));
        assert_eq!(set.len(), usize::from(pool.spec.replicas()));
    }
}

/// States with tables are read again, and damage is noticed.
#[test]
fn tables_survive_and_are_checked() {
    let mut state = with_pool(&["a", "b", "c", "d"]);
    give(&mut state, bind("a", 1)).expect("bound");
    give(&mut state, filled()).expect("a first write");
    give(&mut state, replace("a")).expect("replaced");
    let bytes = state.encode();
    let read = ClusterState::decode(&bytes).expect("our own");
    assert_eq!(read, state);
    assert_eq!(read.encode(), bytes);
    let text = String::from_utf8(bytes).expect("JSON");
    let digest = String::from(slots(&state).digest.clone());
    let damaged = text.replacen(&digest, &"0".repeat(64), 1);
    let error = ClusterState::decode(damaged.as_bytes()).expect_err("another digest");
    assert!(matches!(error, StateError::Table { .. }), "{error}");
}

/// The bytes of a state with a pool that keeps data.
const STATE: &str = include_str!("version_2_born.json");

/// The same, of before births were told and nodes without a cluster had names.
const UNBORN: &str = include_str!("version_2_kept.json");

fn alone(generation: u64) -> Identity {
    Identity { id: ClusterId([7; 16]), generation: Generation(generation) }
}

#[test]
fn a_state_with_kept_pools_stays_readable_and_is_what_we_write() {
    let mut state = ClusterState::default();
    state.begin_alone(alone(3));
    give(&mut state, create(&["a", "b", "c", "d"])).expect("a pool");
    give(&mut state, bind("a", 1)).expect("bound");
    give(&mut state, bind("b", 2)).expect("bound");
    give(&mut state, filled()).expect("a first write");
    give(&mut state, replace("a")).expect("replaced");
    give(&mut state, mark("b", 2, StoreMark::CatchingUp)).expect("hints");
    let read = ClusterState::decode(STATE.as_bytes()).expect("kept");
    let written = String::from_utf8(read.encode()).expect("JSON");
    assert!(written == STATE.trim_end(), "what we write:\n{written}");
    // The table is what the release planned that wrote it; all else follows from the commands.
    let without_table = |state: &ClusterState| PoolState {
        slots: None,
        ..PoolState::clone(&state.pools()[&pool_name("p")])
    };
    assert_eq!(without_table(&read), without_table(&state));
    let unborn = ClusterState::decode(UNBORN.as_bytes()).expect("kept");
    assert!(unborn.speaks_as().is_none() && unborn.pools()[&pool_name("p")].born.is_unknown());
    assert_eq!(String::from_utf8(unborn.encode()).expect("JSON"), UNBORN.trim_end());
}

/// A node without a cluster has lost its state, and its stores have not. It becomes what they say once,
/// before anything is written; a cluster loses no state, and what this state has made is its own.
#[test]
fn a_pool_is_adopted_once_and_by_nobody_who_knows_better() {
    let p = || pool_name("p");
    let birth =
        |generation, epoch| Birth { generation: Generation(generation), epoch: Epoch(epoch) };
    let adopt_with = |born, fresh: &[&str]| {
        let fresh = fresh.iter().map(|id| shard_id(id)).collect();
        Command::AdoptPool { pool: p(), born, fresh }
    };
    let adopt = |born| adopt_with(born, &[]);
    let begun = |generation| {
        let mut state = ClusterState::default();
        state.begin_alone(alone(generation));
        give(&mut state, create(&["a", "b", "c"])).expect("a pool");
        state
    };
    let mut state = begun(2);
    assert_eq!(state.pools()[&p()].born, birth(2, 1));
    for own in [birth(2, 1), birth(3, 1)] {
        let refusal = give(&mut state, adopt(own)).expect_err("nobody lost that");
        assert!(matches!(refusal, Refusal::NotAdopted { .. }), "{refusal}");
    }
    // Of three replicas one may have lost its store as well, and two may not.
    let few = give(&mut state, adopt_with(birth(1, 4), &["a", "b"])).expect_err("too few know");
    assert!(matches!(few, Refusal::TooFewKnow { empty: 2, .. }), "{few}");
    assert!(!few.to_string().contains("replaced"), "nobody replaces anything: {few}");
    let mut one_lost = state.clone();
    give(&mut one_lost, adopt_with(birth(1, 4), &["b"])).expect("two know");
    let lost = one_lost.pools()[&p()].store(&shard_id("b"));
    assert!(lost.fresh && lost.catching_up && lost.store.is_none());
    let mut begun_anew = state.clone();
    give(&mut begun_anew, bind("a", 1)).expect("free");
    let late = give(&mut begun_anew, adopt(birth(1, 4))).expect_err("a store was told otherwise");
    assert!(matches!(late, Refusal::NotAdopted { .. }), "{late}");

    give(&mut state, adopt(birth(1, 4))).expect("what was lost");
    give(&mut state, adopt(birth(1, 4))).expect("again");
    let pool = &state.pools()[&p()];
    assert_eq!((pool.born, pool.filled, pool.epoch), (birth(1, 4), true, Epoch(1)));
    let other = give(&mut state, adopt(birth(1, 5))).expect_err("it has its data");
    assert!(matches!(other, Refusal::NotAdopted { .. }), "{other}");
    // The next pool of the name is born in the present generation.
    give(&mut state, now(Change::DropPool { pool: p() })).expect("dropped");
    give(&mut state, create(&["a", "b", "c"])).expect("anew");
    assert_eq!(state.pools()[&p()].born, birth(2, 2));

    let mut written = begun(2);
    give(&mut written, filled()).expect("a first write");
    give(&mut written, adopt(birth(1, 1))).expect_err("it has data of its own");
    let mut cluster = founded();
    let level = Command::RaiseFeatureLevel { level: FEATURE_LEVEL };
    let start = Command::BeginIncarnation {
        node: NodeId(1),
        after: Incarnation(1),
        address: PeerAddress::parse("n1:7000").expect("an address"),
        version: "0.1.0".to_owned(),
        feature_level: FEATURE_LEVEL,
    };
    let remove = Command::RemovePool { pool: p() };
    for command in [start, level, remove, create(&["a", "b", "c"])] {
        give(&mut cluster, command).expect("a pool");
    }
    let pool = &cluster.pools()[&p()];
    assert_eq!(pool.born, birth(1, pool.epoch.0));
    give(&mut cluster, adopt(birth(0, 1))).expect_err("a cluster loses no state");
}

/// The bytes of the commands of level 3, behind the first byte of an entry.
const ENVELOPES: &str = include_str!("envelopes_kept.jsonl");

#[test]
fn the_entries_of_level_3_stay_readable_and_are_what_we_write() {
    let table = TableChange {
        pool: pool_name("p"),
        base: Some((Epoch(1), HexBytes(vec![1, 0xab]))),
        delta: HexBytes(vec![1, 0, 1, 2]),
        digest: HexBytes(vec![0xff; 32]),
    };
    let url = BaseUrl::parse("http://fresh").expect("a URL");
    let (p, a) = (pool_name("p"), shard_id("a"));
    let replace =
        Change::ReplaceShard { pool: p.clone(), shard: a.clone(), url: Some(url), lose: false };
    let drop = Change::DropPool { pool: p };
    let commands = [
        create(&["a", "b", "c"]),
        filled(),
        bind("a", 1),
        mark("a", 1, StoreMark::CatchingUp),
        mark("a", 1, StoreMark::CaughtUp),
        mark("a", 1, StoreMark::Filled),
        Command::Placed {
            command: Box::new(Command::ChangeNow { changes: vec![replace, drop] }),
            tables: vec![table],
        },
        Command::SetVerdicts {
            term: Term(1),
            verdicts: vec![(
                pool_name("p"),
                a,
                Verdict { reads_down: true, writes_down: true, foreign: true },
            )],
        },
        Command::AdoptPool {
            pool: pool_name("p"),
            born: Birth { generation: Generation(1), epoch: Epoch(4) },
            fresh: Vec::new(),
        },
    ];
    let lines: Vec<&str> = ENVELOPES.lines().collect();
    let found: Vec<String> = commands
        .iter()
        .map(|command| serde_json::to_string(command).expect("commands are JSON"))
        .collect();
    assert_eq!(lines, found, "what we write:\n{}", found.join("\n"));
    for (line, command) in lines.iter().zip(&commands) {
        assert_eq!(&serde_json::from_str::<Command>(line).expect("level 3"), command);
        assert_eq!(command.feature_level(), FeatureLevel(3));
    }
}
