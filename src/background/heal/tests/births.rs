//! What does a pool find in stores that kept another of its name, and a node in those that it forgot?

use super::*;
use crate::cluster::Identity;
use crate::ids::Birth;

/// Long enough for several looks at every shard. What is not to happen is waited for so long.
const LOOKS: Duration = Duration::from_secs(7);

impl Agreed {
    /// Another state, as of a node that begins anew.
    fn begin_anew(
        &self,
        id: u8,
        generation: u64,
        change: impl FnOnce(&mut Vec<(ShardId, ShardSpec)>),
    ) {
        let mut both = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = Arc::clone(&both.0.pools()[&pool()]);
        let mut shards: Vec<_> = before.shards.clone().into_iter().collect();
        change(&mut shards);
        let mut state = ClusterState::default();
        let id = ClusterId([id; 16]);
        state.begin_alone(Identity { id, generation: Generation(generation) });
        let create = Command::CreatePool { pool: pool(), spec: before.spec.clone(), shards };
        let create = state.planned(create);
        state.apply_command(&create).expect("a good pool");
        let topology = Arc::new(Topology::build(&state, None).expect("rings"));
        *both = (state, topology);
    }

    /// When the pool came to be, and whether it has something to lose.
    fn born(&self) -> (Birth, bool) {
        let both = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = &both.0.pools()[&pool()];
        (pool.born, pool.filled)
    }
}

fn birth(generation: u64, epoch: u64) -> Birth {
    Birth { generation: Generation(generation), epoch: Epoch(epoch) }
}

impl Three {
    async fn bound(&self) {
        let all = self.shards.len();
        let bound = async || (0..all).all(|shard| self.agreed.store(shard).store.is_some());
        self.until("every shard has its store", bound).await;
    }

    fn none_is_bound(&self) -> bool {
        (0..self.shards.len()).all(|shard| self.agreed.store(shard).store.is_none())
    }
}

/// The story: a pool was dropped, with all that it keeps, and made anew with another hash seed. The old
/// objects were there again, some of them, and the rest could be neither read nor written.
#[tokio::test]
async fn a_pool_made_anew_has_nothing_of_the_one_that_was_dropped() {
    locally(async {
        let mut three = Three::start(3_600_000).await;
        let old = three.write("k", Some(b"of the first"), &[0, 1, 2]).await;
        three.write("gone", None, &[0, 1, 2]).await;
        let (drop, create) = {
            let both = three.agreed.0.lock().unwrap_or_else(PoisonError::into_inner);
            let before = &both.0.pools()[&pool()];
            let spec = PoolSpec { hash_seed: "another".to_owned(), ..before.spec.clone() };
            let shards = before.shards.clone().into_iter().collect();
            (Change::DropPool { pool: pool() }, Change::CreatePool { pool: pool(), spec, shards })
        };
        // Of the first one somebody has yet to be told.
        three.shards[2].stop().await;
        three.hint("k", 2, old);
        let noted = async || !three.hints.sink().pending().is_empty();
        three.until("the hint is noted", noted).await;
        three.agreed.change_planned(Command::ChangeNow { changes: vec![drop, create] });
        let forgotten = async || three.hints.sink().pending().is_empty();
        three.until("what was missed in it is forgotten", forgotten).await;
        three.shards[2].start().await;
        three.bound().await;
        assert_eq!(three.agreed.born(), (birth(0, 2), false), "nobody takes the old ones over");
        for key in ["k", "gone"] {
            assert_eq!(three.held(key).await, [Some(Held::NOTHING); 3], "{key}");
        }
        three.agreed.change(&Command::MarkFilled { pool: pool() }).expect("it is there");
        let version = three.write("k", Some(b"of the second"), &[0, 1, 2]).await;
        assert_eq!(three.held("k").await, [Some(Held::Value(version)); 3]);
        assert_eq!(three.repair(false).await.keys_differing, 0);
        three.end().await;
    })
    .await;
}

/// The story: a node without a cluster lost its `state.json`. It began at epoch 1, and its stores
/// refused it for ever, since they had been told of epoch 2.
#[tokio::test]
async fn a_node_that_lost_its_state_takes_over_what_its_stores_keep() {
    locally(async {
        let mut three = Three::of(4, 3_600_000).await;
        three.agreed.begin_anew(7, 1, |_| {});
        three.bound().await;
        three.agreed.change(&Command::MarkFilled { pool: pool() }).expect("it is there");
        let replicas = |three: &Three, key: &str| {
            let pool = three.pool();
            pool.replicas(pool.agreed.ring.token(format!("/{key}").as_bytes()))
        };
        for number in 0..100 {
            let key = format!("k/{number}");
            let shards = replicas(&three, &key);
            three.write(&key, Some(key.as_bytes()), &shards).await;
        }
        assert_eq!(three.agreed.born(), (birth(1, 1), true));

        // Another node does not get them, nor does this one with other places for them.
        three.agreed.begin_anew(8, 9, |_| {});
        tokio::time::sleep(LOOKS).await;
        assert!(three.none_is_bound(), "they are not that node's");
        let heavier = |shards: &mut Vec<(ShardId, ShardSpec)>| {
            shards[0].1.weight = Weight::try_from(7).expect("a weight");
        };
        three.agreed.begin_anew(7, 2, heavier);
        tokio::time::sleep(LOOKS).await;
        assert!(three.none_is_bound() && !three.agreed.born().1, "its table looks elsewhere");

        three.agreed.begin_anew(7, 3, |shards| shards[0].1.weight = Weight::ONE);
        three.bound().await;
        assert_eq!(three.agreed.born(), (birth(1, 1), true), "it is the pool that it was");
        let held = three.held("k/7").await;
        assert!(held.iter().all(|held| matches!(held, Some(Held::Value(_)))), "{held:?}");
        let shards = replicas(&three, "k/7");
        three.write("k/7", Some(b"again"), &shards).await;
        assert_eq!(three.repair(true).await.keys_differing, 0);
        three.end().await;
    })
    .await;
}

/// The story: a pool was dropped and made anew while one store was away. The node lost its state; the
/// two stores that knew of the second pool had nothing in it yet, and the third had all of the first one,
/// which was the pool's again.
#[tokio::test]
async fn what_was_dropped_is_not_taken_over_by_a_node_that_forgot_it() {
    locally(async {
        let mut three = Three::start(3_600_000).await;
        three.agreed.begin_anew(7, 1, |_| {});
        three.bound().await;
        three.write("k", Some(b"of the first"), &[0, 1, 2]).await;
        three.shards[2].stop().await;
        let (drop, create) = {
            let both = three.agreed.0.lock().unwrap_or_else(PoisonError::into_inner);
            let before = &both.0.pools()[&pool()];
            let (spec, shards) = (before.spec.clone(), before.shards.clone().into_iter().collect());
            (Change::DropPool { pool: pool() }, Change::CreatePool { pool: pool(), spec, shards })
        };
        three.agreed.change_planned(Command::ChangeNow { changes: vec![drop, create] });
        let both = async || [0, 1].iter().all(|shard| three.agreed.store(*shard).store.is_some());
        three.until("two have their stores", both).await;

        three.agreed.begin_anew(7, 2, |_| {});
        tokio::time::sleep(LOOKS).await;
        assert!(three.none_is_bound(), "one has yet to tell what it keeps");
        three.shards[2].start().await;
        let both = async || [0, 1].iter().all(|shard| three.agreed.store(*shard).store.is_some());
        three.until("two have their stores", both).await;
        tokio::time::sleep(LOOKS).await;
        assert_eq!(three.agreed.born(), (birth(2, 1), false), "it is not that pool");
        assert!(three.agreed.store(2).store.is_none(), "what it keeps is left alone");
        three.end().await;
    })
    .await;
}

/// The story: a node lost its state, and one of its stores its disk. The empty one counted as a whole
/// replica, and reads that it and another one answered missed what was acknowledged.
#[tokio::test]
async fn a_store_that_knows_nothing_of_what_is_taken_over_is_filled_first() {
    locally(async {
        let mut three = Three::start(3_600_000).await;
        three.agreed.begin_anew(7, 1, |_| {});
        three.bound().await;
        three.agreed.change(&Command::MarkFilled { pool: pool() }).expect("it is there");
        let version = three.write("k", Some(b"value"), &[0, 1]).await;
        three.shards[2].stop().await;
        three.shards[2].lose_all();
        three.agreed.begin_anew(7, 2, |_| {});
        three.shards[2].start().await;
        let adopted = async || three.agreed.born() == (birth(1, 1), true);
        three.until("it is the pool that it was", adopted).await;
        three.bound().await;
        let filled = async || !three.agreed.store(2).fresh;
        three.until("the empty one is filled", filled).await;
        assert_eq!(three.held("k").await, [Some(Held::Value(version)); 3]);
        three.end().await;
    })
    .await;
}

/// The story: `state.json` was put back from a backup of before a pool was dropped. The file dropped it
/// again and made it anew, and the new one was born at the very epoch at which the true one had been: its
/// objects were the new pool's, which nobody had meant.
#[tokio::test]
async fn an_older_copy_of_the_state_uses_no_store_that_was_told_more() {
    locally(async {
        let mut three = Three::start(3_600_000).await;
        let anew = |three: &Three| {
            let both = three.agreed.0.lock().unwrap_or_else(PoisonError::into_inner);
            let before = &both.0.pools()[&pool()];
            let (spec, shards) = (before.spec.clone(), before.shards.clone().into_iter().collect());
            let drop = Change::DropPool { pool: pool() };
            vec![drop, Change::CreatePool { pool: pool(), spec, shards }]
        };
        // As it was: made anew at epoch 2, changed at epoch 3, written to.
        three.agreed.begin_anew(7, 1, |_| {});
        let changes = anew(&three);
        three.agreed.change_planned(Command::ChangeNow { changes });
        let weight = Weight::try_from(7).expect("a weight");
        let put: Vec<_> = {
            let both = three.agreed.0.lock().unwrap_or_else(PoisonError::into_inner);
            let shards = both.0.pools()[&pool()].shards.clone();
            shards.into_iter().map(|(id, spec)| (id, ShardSpec { weight, ..spec })).collect()
        };
        let set = Command::SetShards { pool: pool(), put, remove: Vec::new() };
        three.agreed.change_planned(set);
        three.bound().await;
        three.agreed.change(&Command::MarkFilled { pool: pool() }).expect("it is there");
        three.write("k", Some(b"of the true one"), &[0, 1, 2]).await;
        assert_eq!(three.agreed.born(), (birth(1, 2), true));

        // As it is told again.
        three.agreed.begin_anew(7, 1, |_| {});
        let changes = anew(&three);
        three.agreed.change_planned(Command::ChangeNow { changes });
        tokio::time::sleep(LOOKS).await;
        assert_eq!(three.agreed.born(), (birth(1, 2), false), "it is not the one that was");
        assert!(three.none_is_bound());
        three.end().await;
    })
    .await;
}
