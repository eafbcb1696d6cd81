//! What people read of a ring, a plan and a history, made by the code that answers them.

use super::*;
use crate::admin::plan::PlanDocument;
use crate::admin::ring::{HistoryRecord, RingShard};
use crate::cluster::{
    ClusterState, Command, Kind, Mode, Placement, PoolSpec, StoreState, Verdict, differences,
};

fn pool_name(name: &str) -> PoolName {
    PoolName::new(name).expect("a name")
}

fn shard_id(name: &str) -> ShardId {
    ShardId::new(name).expect("a name")
}

fn shard(host: &str, zone: &str, weight: u64) -> ShardSpec {
    ShardSpec {
        url: BaseUrl::parse(&format!("http://{host}:8080")).expect("a URL"),
        zone: Zone::new(zone).expect("a name"),
        weight: Weight::try_from(weight).expect("a weight"),
        state: AdminState::Ready,
        ketama_name: None,
    }
}

fn spec() -> PoolSpec {
    PoolSpec {
        kind: Kind::Cache,
        placement: Placement::Ring,
        hash_seed: "seed".to_owned(),
        vnodes: 64,
        immutable: true,
        mode: Mode::Any,
        kept: None,
    }
}

fn state() -> ClusterState {
    let mut state = ClusterState::default();
    let shards = [("s1", "east"), ("s2", "west")];
    let shards = shards.map(|(id, zone)| (shard_id(id), shard(id, zone, 1))).to_vec();
    let create = Command::CreatePool { pool: pool_name("objects"), spec: spec(), shards };
    state.apply_command(&create).expect("a good pool");
    state
}

fn ring() -> RingDocument {
    let state = state();
    let pool = &state.pools()[&pool_name("objects")];
    let down = Verdict { reads_down: false, writes_down: true, foreign: false };
    let shards = pool.shards.iter().map(|(id, shard)| RingShard {
        id: id.clone(),
        url: shard.url.clone(),
        zone: shard.zone.clone(),
        weight: shard.weight,
        ketama_name: shard.ketama_name.clone(),
        state: if id.as_str() == "s1" { AdminState::Ready } else { AdminState::Maint },
        verdict: if id.as_str() == "s1" { Verdict::CLEAR } else { down },
        share: "50.00 %".to_owned(),
        store: StoreState::default(),
    });
    RingDocument {
        revision: 7,
        pools: vec![RingPool {
            name: pool_name("objects"),
            epoch: 3,
            barrier: 2,
            digest: "8fbf52a1f0bd978e".to_owned(),
            spec: pool.spec.clone(),
            filled: false,
            shards: shards.collect(),
        }],
        staged: vec![Change::RemoveShard { pool: pool_name("objects"), shard: shard_id("s2") }],
    }
}

#[test]
fn a_ring_is_shown_with_what_is_set_and_what_is_agreed() {
    let meant = "\
revision 7

pool objects (cache, mode any, immutable), epoch 3, settled 2, ring 8fbf52a1f0bd978e, 64 vnodes per weight
  shard  zone  weight  share    set    agreed       url
  s1     east  1       50.00 %  ready  up           http://s1:8080
  s2     west  1       50.00 %  maint  writes down  http://s2:8080

staged, and not applied:
  remove objects/s2
";
    assert_eq!(ring_words(&ring()), meant);
}

/// Of a pool that keeps data copies move, not keys: a key is on several shards.
#[test]
fn a_plan_of_a_balanced_pool_tells_of_copies() {
    let plan = |epoch_before| PoolPlan {
        pool: pool_name("objects"),
        epoch_before,
        epoch_after: Some(2),
        moved: "25.00 %".to_owned(),
        balanced: true,
        peak_before: None,
        peak_after: None,
        shards: Vec::new(),
        zones: Vec::new(),
    };
    let first = |plan: &PoolPlan| pool_plan_words(plan).lines().nth(1).map(str::to_owned);
    let meant = "pool objects: epoch 1 to 2, 25.00 % of the copies get another shard";
    assert_eq!(first(&plan(Some(1))).as_deref(), Some(meant));
    assert_eq!(first(&plan(None)).as_deref(), Some("pool objects: new, epoch 2"));
}

#[test]
fn a_plan_tells_what_moves_and_what_a_lost_zone_would_do() {
    let pool = || pool_name("objects");
    let changes = [
        Change::AddShard { pool: pool(), shard: shard_id("s3"), spec: shard("s3", "east", 2) },
        Change::SetUrl {
            pool: pool(),
            shard: shard_id("s1"),
            url: BaseUrl::parse("http://s1.new").expect("a URL"),
        },
    ];
    let plan = PlanDocument::of(&state().plan_of(&changes).expect("it can be done"));
    let meant = format!(
        "\
plan {}
  add objects/s3 (weight 2, zone east, http://s3:8080)
  objects/s1 is now at http://s1.new

pool objects: epoch 1 to 2, 50.74 % of the keys move
  the heaviest shard has 103.20 % of what its weight says, before 119.08 %
  shard  before   after
  s1     59.54 %  25.80 %
  s2     40.46 %  23.46 %
  s3     0.00 %   50.74 %
  zone lost  keys     worst survivor
  east       76.54 %  s2 at 426.19 % of its load
  west       23.46 %  s1 at 141.30 % of its load

warning: pool `objects`: 50.74 % of the keys get another owner, and will be missed there once
warning: pool `objects`: zone `east` owns 76.54 %, much more than its part of 2 zones
",
        plan.id
    );
    assert_eq!(plan_words(&plan), meant);
}

#[test]
fn a_plan_that_moves_nothing_is_short() {
    let state_of =
        |state| Change::SetState { pool: pool_name("objects"), shard: shard_id("s1"), state };
    let plan = state().plan_of(&[state_of(AdminState::Maint)]).expect("it can be done");
    let meant = format!(
        "plan {}\n  set objects/s1 to maint\n\npool objects: stays at epoch 1, no key moves\n",
        plan.id
    );
    assert_eq!(plan_words(&PlanDocument::of(&plan)), meant);
}

#[test]
fn a_history_is_a_table() {
    let epochs = PoolEpochs {
        pool: pool_name("objects"),
        before: Some(crate::ids::Epoch(1)),
        after: Some(crate::ids::Epoch(2)),
    };
    let record = |revision, actor: &str, what: &str, epochs| HistoryRecord {
        revision,
        at: "2026-11-21T05:32:00.125Z".to_owned(),
        actor: actor.to_owned(),
        what: what.to_owned(),
        epochs,
    };
    let history = HistoryDocument {
        records: vec![
            record(9, "steward@n1", "objects/s2 is down", vec![]),
            record(12, "admin@n2 (ada)", "remove objects/s2", vec![epochs]),
        ],
    };
    let meant = "  \
  revision  when                      who             epochs                 what
  9         2026-11-21T05:32:00.125Z  steward@n1      -                      objects/s2 is down
  12        2026-11-21T05:32:00.125Z  admin@n2 (ada)  objects: epoch 1 to 2  remove objects/s2
";
    assert_eq!(history_words(&history), meant);
}

#[test]
fn shards_are_named_with_their_pool_or_without() {
    let place = |text: &str| text.parse::<ShardPlace>();
    let alone = ShardPlace { pool: None, shard: shard_id("s1") };
    assert_eq!(place("s1"), Ok(alone));
    let with = ShardPlace { pool: Some(pool_name("objects")), shard: shard_id("s1") };
    assert_eq!(place("objects/s1"), Ok(with));
    assert!(place("/s1").is_err() && place("a/b/c").is_err() && place("").is_err());
    let two = RingDocument { pools: [ring().pools, ring().pools].concat(), ..ring() };
    let refused = only_pool(&two).expect_err("which one?").to_string();
    assert_eq!(refused, "say which pool, as POOL/SHARD or with --pool: there are objects, objects");
    assert_eq!(only_pool(&ring()).expect("the only one"), pool_name("objects"));
}

#[test]
fn what_a_node_shows_is_what_a_file_is_compared_with() {
    let mut wanted = desired(ring());
    assert_eq!(differences(&desired(ring()), &wanted), []);
    let pool = wanted.get_mut(&pool_name("objects")).expect("it is there");
    pool.shards.remove(&shard_id("s2"));
    let remove = Change::RemoveShard { pool: pool_name("objects"), shard: shard_id("s2") };
    assert_eq!(differences(&desired(ring()), &wanted), [remove]);
}
