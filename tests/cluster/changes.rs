//! Is each change that was acknowledged made exactly once, while nodes die at random?
//! Fault rows 3, 4, 17 and 18.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use fastrand::Rng;

use crate::group::{Cluster, POOL, Setup};
use crate::said::Outcome;
use crate::support::say::say;
use crate::turns::{long, together};

/// What the killer and the askers do is rebuilt from it; what the threads do in between is not.
fn seed() -> u64 {
    let seed = std::env::var("RINGWAY_SEED").ok().and_then(|text| text.parse().ok());
    seed.unwrap_or(0xc1a5)
}

/// Each change gives a shard a weight that no shard ever had, so that the history tells how often
/// it was made.
fn weight(change: usize) -> u16 {
    u16::try_from(change + 1).expect("at most 256 of them")
}

#[test]
fn nodes_die_at_random_while_the_ring_changes() {
    let _turn = together();
    let changes = if long() { 200 } else { 30 };
    let seed = seed();
    let mut random = Rng::with_seed(seed);
    let setup = Setup { shards: 5, ..Setup::default() };
    let mut cluster = Cluster::start_with(&setup, |_, _, rest| rest.weight = 256);
    let mut outcomes: BTreeMap<u16, Outcome> = BTreeMap::new();
    let mut kills = 0;
    for change in 0..changes {
        let running = cluster.running();
        let asked = running[random.usize(0..running.len())];
        let shard = format!("s{}", change % 5 + 1);
        // Seldom two are away at once: then nothing can be agreed, and nobody can tell.
        let may_kill = running.len() == 3 || (running.len() == 2 && random.u8(0..8) == 0);
        let victim =
            (may_kill && random.u8(0..3) == 0).then(|| running[random.usize(0..running.len())]);
        let after = Duration::from_millis(random.u64(0..30));
        let outcome = thread::scope(|scope| {
            let member = &cluster.members[asked];
            let (admin, token) = (member.serve().admin, member.token());
            let document = crate::group::weight_change(&shard, weight(change));
            let asked = scope.spawn(move || {
                let limit = Duration::from_secs(20);
                crate::said::act(admin, &token, "POST", "/v1/ring/changes", &document, limit)
            });
            if let Some(victim) = victim {
                #[allow(clippy::disallowed_methods, reason = "the moment of a death is chosen")]
                thread::sleep(after);
                cluster.members[victim].kill_9();
                kills += 1;
                let back_at_once = cluster.running().len() < 2 || random.bool();
                if back_at_once {
                    cluster.start_member(victim);
                }
            }
            asked.join().expect("an outcome")
        });
        outcomes.insert(weight(change), outcome);
        for at in 0..cluster.members.len() {
            if !cluster.members[at].runs() && random.u8(0..3) == 0 {
                cluster.start_member(at);
            }
        }
        for at in cluster.running() {
            // Each look is held against everything that was ever said.
            drop(cluster.view(at));
        }
    }
    for at in 0..cluster.members.len() {
        if !cluster.members[at].runs() {
            cluster.start_member(at);
        }
    }
    cluster.until_agreed();

    let histories: BTreeSet<Vec<String>> =
        cluster.running().iter().map(|&at| cluster.history(at)).collect();
    assert_eq!(histories.len(), 1, "all nodes tell one history");
    let history = histories.into_iter().next().expect("one");
    let mut counts = [0; 3];
    for (weight, outcome) in &outcomes {
        let times = history.iter().filter(|what| tells_of(what, *weight)).count();
        let (kind, allowed) = match outcome {
            Outcome::Done => (0, 1..=1),
            Outcome::Refused(_) => (1, 0..=0),
            Outcome::Unknown(_) => (2, 0..=1),
        };
        counts[kind] += 1;
        assert!(
            allowed.contains(&times),
            "weight {weight} stands {times} times in the history, and its asker was told \
             {outcome:?}; seed {seed}: {history:#?}"
        );
    }
    let [done, refused, unknown] = counts;
    say(&format!(
        "  {changes} changes, {kills} kills: {done} acknowledged and made once, {refused} not \
         made, {unknown} that nobody can tell; seed {seed}"
    ));
    assert!(done * 2 > changes, "most changes are agreed: {outcomes:#?}");
    let last = outcomes.iter().rev().find(|(_, outcome)| **outcome == Outcome::Done);
    assert!(last.is_some() && cluster.view(0).is_some_and(|view| view.shard(POOL, "s1").is_some()));
}

/// Whether a sentence of the history is of the change to this weight.
fn tells_of(what: &str, weight: u16) -> bool {
    let mut words = what.split(|letter: char| !letter.is_alphanumeric());
    let number = weight.to_string();
    what.contains("weight") && words.any(|word| word == number)
}
