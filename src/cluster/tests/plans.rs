//! What is made is what was shown.

use std::collections::BTreeMap;

use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

use super::*;

fn give(state: &mut ClusterState, command: Command) -> Result<Applied, Refusal> {
    state.apply(state.revision().next(), &envelope(None, command))
}

/// Few virtual nodes and small weights: rings that are built quickly.
fn light(change: Change) -> Change {
    let lighter =
        |spec: ShardSpec| ShardSpec { weight: weight(u64::from(spec.weight).min(3)), ..spec };
    match change {
        Change::AddShard { pool, shard, spec } => {
            Change::AddShard { pool, shard, spec: lighter(spec) }
        }
        Change::SetWeight { pool, shard, weight: units } => {
            Change::SetWeight { pool, shard, weight: weight(u64::from(units).min(3)) }
        }
        Change::SetPool { pool, spec } => {
            Change::SetPool { pool, spec: PoolSpec { vnodes: spec.vnodes.min(16), ..spec } }
        }
        Change::CreatePool { pool, spec, shards } => Change::CreatePool {
            pool,
            spec: PoolSpec { vnodes: spec.vnodes.min(16), ..spec },
            shards: shards.into_iter().map(|(id, spec)| (id, lighter(spec))).collect(),
        },
        other => other,
    }
}

proptest! {
    // Most changes that are drawn cannot be made.
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(1500))]

    #[test]
    fn a_plan_does_what_it_shows(changes in prop::collection::vec(any_change(), 1..4)) {
        let changes: Vec<Change> = changes.into_iter().map(light).collect();
        let mut state = ClusterState { feature_level: FEATURE_LEVEL, ..founded() };
        let at_once = {
            let mut state = state.clone();
            give(&mut state, Command::ChangeNow { changes: changes.clone() }).map(|applied| (state, applied))
        };
        let Ok((at_once, applied)) = at_once else {
            // What cannot be done cannot be staged or shown either, and for the same reason.
            let refusal = at_once.expect_err("refused");
            prop_assert_eq!(state.plan_of(&changes).expect_err("refused"), refusal.clone());
            prop_assert_eq!(give(&mut state, Command::Stage { changes }), Err(refusal));
            return Ok(());
        };
        give(&mut state, Command::Stage { changes: changes.clone() }).expect("it can be done");
        let before = state.clone();
        let plan = state.plan().expect("it is staged");
        prop_assert_eq!(plan.id, founded().plan_of(&changes).expect("the same").id);
        let made = give(&mut state, Command::ApplyPlan { plan: plan.id }).expect("as shown");
        prop_assert_eq!(&made.pools, &applied.pools);
        prop_assert_eq!(state.pools(), at_once.pools());
        prop_assert!(state.staged().is_empty());

        // The report is what lies between the two states.
        let told = report(&before, &state).expect("both have rings");
        let told: BTreeMap<_, _> = told.iter().map(|pool| (&pool.pool, format!("{pool:?}"))).collect();
        for pool in &plan.report {
            let same = before.pools().get(&pool.pool) == state.pools().get(&pool.pool);
            let shown = format!("{pool:?}");
            prop_assert!(same || told[&pool.pool] == shown);
            prop_assert!(!same || pool.moved.is_zero() && pool.epoch_before == pool.epoch_after);
        }
        prop_assert!(told.keys().all(|name| plan.report.iter().any(|pool| pool.pool == **name)));
        prop_assert_eq!(
            plan.report.iter().map(|pool| (&pool.pool, pool.epoch_before, pool.epoch_after)).collect::<Vec<_>>(),
            made.pools.iter().map(|pool| (&pool.pool, pool.before, pool.after)).collect::<Vec<_>>()
        );
        // What was made is not made again.
        prop_assert_eq!(give(&mut state, Command::ApplyPlan { plan: plan.id }), Err(Refusal::NothingStaged));
    }

    /// Something else happens between the showing and the making.
    #[test]
    fn a_plan_that_was_overtaken_is_shown_again(
        changes in prop::collection::vec(any_change(), 1..4),
        between in any_cluster_command(),
    ) {
        let changes: Vec<Change> = changes.into_iter().map(light).collect();
        let mut state = founded();
        let touched: Vec<PoolName> = changes.iter().map(|change| change.pool().clone()).collect();
        if give(&mut state, Command::Stage { changes }).is_err() {
            return Ok(());
        }
        let before = state.clone();
        let shown = state.plan().expect("it is staged").id;
        let _: Result<Applied, Refusal> = give(&mut state, between);

        // What decides where a plan starts: epochs, and all that was set.
        let start = |state: &ClusterState| -> Vec<_> {
            let pool = |name: &PoolName| {
                state.pools().get(name).map(|pool| (pool.epoch, pool.spec.clone(), pool.shards.clone()))
            };
            touched.iter().map(pool).collect()
        };
        let same = start(&before) == start(&state) && before.staged() == state.staged();
        let now = state.plan();
        let after = state.clone();
        match give(&mut state, Command::ApplyPlan { plan: shown }) {
            // A pool that is to be made takes its epoch from what bore its name before.
            Ok(_) => prop_assert!(same, "the plan had been overtaken"),
            Err(Refusal::PlanChanged { now: told }) => {
                prop_assert_eq!(now.expect("there is one").id, told);
                prop_assert!(told != shown);
                prop_assert_eq!(state, after);
            }
            Err(refusal) => {
                prop_assert!(!same, "{refusal}");
                prop_assert_eq!(now.expect_err("cannot be shown either"), refusal);
            }
        }
    }
}

/// All that nodes of different releases must agree on, pinned.
#[test]
fn the_name_of_a_plan_is_the_same_for_ever() {
    let change =
        |change: Change| founded().plan_of(&[change]).expect("it can be done").id.to_string();
    let (pool, shard) = (pool_name("p"), shard_id("b"));
    let at = || (pool.clone(), shard.clone());
    let plans = [
        {
            let (pool, _) = at();
            change(Change::AddShard { pool, shard: shard_id("c"), spec: self::shard("west", 2) })
        },
        {
            let (pool, shard) = at();
            change(Change::RemoveShard { pool, shard })
        },
        {
            let (pool, shard) = at();
            change(Change::SetWeight { pool, shard, weight: weight(2) })
        },
        {
            let (pool, _) = at();
            let spec = PoolSpec { mode: Mode::Primary, ..self::pool(8) };
            change(Change::SetPool { pool, spec })
        },
        change(Change::RemovePool { pool: pool.clone() }),
    ];
    let pinned = [
        "0bd8b4656e9c24e7",
        "24f4fbde6635952c",
        "19c703be080fdd9f",
        "00a40fc0bd35222b",
        "eb324478fbc04504",
    ];
    assert_eq!(plans, pinned);
}

fn warned(state: &ClusterState, changes: &[Change]) -> Vec<String> {
    let plan = state.plan_of(changes).expect("it can be done");
    plan.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn what_should_be_looked_at_twice_is_said() {
    let pool = || pool_name("p");
    let add =
        |id: &str, spec: ShardSpec| Change::AddShard { pool: pool(), shard: shard_id(id), spec };
    let at = |host: &str, zone: &str, units: u64| ShardSpec {
        url: BaseUrl::parse(&format!("http://{host}")).expect("a URL"),
        ..shard(zone, units)
    };
    let mut state = ClusterState::default();
    state
        .apply_command(&Command::CreatePool {
            pool: pool(),
            spec: super::pool(256),
            shards: ["a", "b", "c", "d", "e", "f"]
                .iter()
                .map(|id| (shard_id(id), at(id, if *id < "d" { "east" } else { "west" }, 2)))
                .collect(),
        })
        .expect("created");
    assert_eq!(warned(&state, &[add("g", at("g", "west", 2))]), Vec::<String>::new());
    let said = |changes: &[Change]| warned(&state, changes).join("\n");
    let has = |changes: &[Change], part: &str| {
        assert!(said(changes).contains(part), "{part:?} is not in {:?}", said(changes));
    };
    has(&[add("g", at("g", "west", 0))], "`g` has weight 0");
    has(&[add("g", at("a", "west", 2))], "`a` and `g` are both at http://a");
    has(&[add("g", at("g", "west", 9))], "of the keys get another owner");
    has(&[add("g", at("g", "west", 64))], "zone `west` owns");
    let remove = |id: &str| Change::RemoveShard { pool: pool(), shard: shard_id(id) };
    has(&[remove("a"), remove("b"), remove("c")], "zone `east` loses its last shard");
    has(&[remove("a"), remove("b"), remove("c")], "all keys are in zone `west`");
    let maint = |id: &&str| Change::SetState {
        pool: pool(),
        shard: shard_id(id),
        state: AdminState::Maint,
    };
    let all: Vec<Change> = ["a", "b", "c", "d", "e", "f"].iter().map(maint).collect();
    has(&all, "every shard that owns anything is in maintenance");
    assert_eq!(warned(&state, &all[1..]), Vec::<String>::new());
    has(&[Change::RemovePool { pool: pool() }], "pool `p` goes");
}

#[test]
fn a_verdict_goes_with_what_it_is_about() {
    let mut state = founded();
    let down = Verdict { reads_down: true, writes_down: true, foreign: false };
    let at = || (pool_name("p"), shard_id("a"));
    let set = |verdict: Verdict| {
        let (pool, shard) = at();
        Command::SetVerdicts { term: Term(1), verdicts: vec![(pool, shard, verdict)] }
    };
    let verdict = |state: &ClusterState| state.pools()[&pool_name("p")].verdict(&shard_id("a"));
    let (pool, shard) = at();
    for (change, stays) in [
        (Change::SetWeight { pool: pool.clone(), shard: shard.clone(), weight: weight(2) }, true),
        (
            Change::SetState { pool: pool.clone(), shard: shard.clone(), state: AdminState::Maint },
            true,
        ),
        (Change::RemoveShard { pool: pool.clone(), shard: shard_id("b") }, true),
        (
            Change::SetUrl {
                pool: pool.clone(),
                shard: shard.clone(),
                url: BaseUrl::parse("http://new").expect("a URL"),
            },
            false,
        ),
        (Change::RemoveShard { pool, shard }, false),
    ] {
        let mut state = state.clone();
        give(&mut state, set(down)).expect("it is there");
        assert_eq!(verdict(&state), down);
        give(&mut state, Command::ChangeNow { changes: vec![change.clone()] }).expect("changed");
        assert_eq!(verdict(&state) == down, stays, "{change:?}");
    }
    give(&mut state, set(down)).expect("it is there");
    give(&mut state, set(Verdict::CLEAR)).expect("it is there");
    assert!(state.pools()[&pool_name("p")].verdicts.is_empty());
}
