//! Bytes that one disk has lost are brought by the others, and the wrong ones by nobody.

use std::path::PathBuf;

use super::{Held, PassEnd, Three, id, locally, pool};
use crate::cluster::{Change, Command};
use crate::drivers::native::Got;
use crate::level::Level;
use crate::protocol::anti_entropy::mend;
use crate::protocol::quorum::{Reason, Replicas};
use crate::protocol::read::{Answer, Output, Read};

/// Long enough to be a file.
const LARGE: usize = 300_000;

impl Three {
    /// The files of a shard's bodies.
    fn bodies(&self, shard: usize) -> Vec<PathBuf> {
        let folder = self.shards[shard].folder.path().join("bodies");
        let entries = std::fs::read_dir(folder).expect("a store's folder");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }

    /// Turns a bit around in all bodies of a shard.
    fn rot(&self, shard: usize) {
        for file in self.bodies(shard) {
            let mut bytes = std::fs::read(&file).expect("a body");
            bytes[7] ^= 1;
            std::fs::write(file, bytes).expect("a writable folder");
        }
    }

    /// A shard's disk is lost, and an empty store takes its place, which is filled.
    async fn lose_and_fill(&mut self, shard: usize) {
        self.shards[shard].stop().await;
        self.shards[shard].lose_all();
        self.shards[shard].start().await;
        let shard = id(shard);
        let replace = Change::ReplaceShard { pool: pool(), shard, url: None, lose: false };
        self.agreed.change_planned(Command::ChangeNow { changes: vec![replace] });
        let filled = async || {
            (0..3).all(|shard| {
                let state = self.agreed.store(shard);
                state.store.is_some() && !state.fresh
            })
        };
        self.until("it is filled", filled).await;
    }

    /// What a read at `quorum` answers of which only these are up.
    async fn answer_of(&self, key: &str, up: [usize; 2]) -> Answer {
        let held = self.held(key).await;
        let replicas = Replicas { up: up.into_iter().collect(), ..Replicas::all_up(3) };
        let mut read = Read::new(Level::Quorum, replicas).expect("they are a majority");
        loop {
            match read.poll() {
                Some(Output::CheckLease) => read.lease_held(),
                Some(Output::Ask { to }) => {
                    to.iter().for_each(|at| read.held(at, held[at].expect("it answers")));
                }
                Some(Output::Repair { to, .. }) => {
                    to.iter().for_each(|at| read.repair_failed(at));
                }
                Some(Output::Done(answer)) => return answer,
                None => panic!("it waits for nobody"),
            }
        }
    }

    /// Checks that no two replicas answer as if the newest write had never been.
    async fn no_majority_forgets(&self, key: &str) {
        for up in [[0, 1], [0, 2], [1, 2]] {
            assert_eq!(self.answer_of(key, up).await, Answer::None(Reason::Damaged), "{up:?}");
        }
    }

    /// Reads a key of a shard to its end, as whoever copies it does; `None` where it cannot be had.
    async fn read(&self, key: &str, shard: usize) -> Option<Vec<u8>> {
        let (pool, timer) = (self.pool(), self.world.timer());
        let token = pool.agreed.ring.token(format!("/{key}").as_bytes());
        let replica = pool.replica(shard).expect("bound");
        let got = replica.get(&self.world.means, &timer, (key.as_bytes(), token), None, None).await;
        let Got::Value(mut fetch) = got.expect("an answer") else { return None };
        let mut body = Vec::new();
        loop {
            match fetch.next(&timer).await {
                Ok(Some(bytes)) => body.extend_from_slice(bytes),
                Ok(None) => return Some(body),
                Err(_) => return None,
            }
        }
    }
}

/// What was lost once stayed so: its record said that it was there, a copy was "a repeat", and the
/// sums of all replicas were alike.
#[tokio::test]
async fn what_a_disk_has_lost_is_brought_by_the_others() {
    locally(async {
        let mut three = Three::start(3_600_000).await;
        let body = vec![3; LARGE];
        three.write("k", Some(&body), &[0, 1, 2]).await;
        three.write("small", Some(b"small"), &[0, 1, 2]).await;
        assert!(three.are_alike().await);
        // Found by a read.
        std::fs::remove_file(&three.bodies(1)[0]).expect("a body");
        assert_eq!(three.read("k", 1).await, None);
        assert!(matches!(three.held("k").await[1], Some(Held::Damaged(_))));
        assert!(!three.are_alike().await, "it lacks it, for whoever compares");
        let looked = three.repair(true).await;
        assert_eq!((looked.keys_differing, looked.copied), (1, 0), "{looked:?}");
        let mended = three.repair(false).await;
        assert_eq!((mended.copied, mended.is_whole()), (1, true), "{mended:?}");
        assert_eq!(three.read("k", 1).await, Some(body.clone()));
        assert!(three.are_alike().await);
        // Found at the start.
        three.shards[2].stop().await;
        std::fs::remove_file(&three.bodies(2)[0]).expect("a body");
        three.shards[2].start().await;
        assert!(matches!(three.held("k").await[2], Some(Held::Damaged(_))));
        let mended = three.repair(false).await;
        assert!(mended.is_whole(), "{mended:?}");
        assert_eq!(three.read("k", 2).await, Some(body));
        assert!(three.are_alike().await);
        three.end().await;
    })
    .await;
}

#[tokio::test]
async fn a_hint_brings_a_damaged_value_anew() {
    locally(async {
        let mut three = Three::start(3_600_000).await;
        let body = vec![3; LARGE];
        let version = three.write("k", Some(&body), &[0, 1, 2]).await;
        three.rot(0);
        assert_eq!(three.read("k", 0).await, None, "it is cut");
        // As whoever reads leaves it.
        three.hint("k", 0, version);
        let has_it = async || three.held("k").await[0] == Some(Held::Value(version));
        three.until("it is brought", has_it).await;
        assert_eq!(three.read("k", 0).await, Some(body));
        three.end().await;
    })
    .await;
}

#[tokio::test]
async fn who_lacks_a_value_is_brought_it_by_one_that_has_it_undamaged() {
    locally(async {
        let mut three = Three::start(3_600_000).await;
        let body = vec![3; LARGE];
        three.write("k", Some(&body), &[1, 2]).await;
        three.rot(1);
        // The spoilt one is asked first, and found out by that.
        let mended = three.repair(false).await;
        assert_eq!((mended.copied, mended.is_whole()), (1, true), "{mended:?}");
        assert_eq!(three.read("k", 0).await, Some(body.clone()));
        let held = three.held("k").await;
        assert!(matches!(held[1], Some(Held::Damaged(_))), "{held:?}");
        let mended = three.repair(false).await;
        assert_eq!((mended.copied, mended.is_whole()), (1, true), "{mended:?}");
        assert_eq!(three.read("k", 1).await, Some(body));
        three.end().await;
    })
    .await;
}

#[tokio::test]
async fn a_value_that_nobody_has_any_more_is_told_and_nothing_older_is_spread() {
    locally(async {
        let mut three = Three::start(3_600_000).await;
        let older = three.write("k", Some(b"older"), &[0, 2]).await;
        three.write("k", Some(&vec![3; LARGE]), &[1]).await;
        three.rot(1);
        assert_eq!(three.read("k", 1).await, None);
        for dry_run in [true, false, false] {
            let pass = three.repair(dry_run).await;
            let counts = (pass.copied, pass.failed, pass.lost);
            assert_eq!((&pass.end, counts), (&PassEnd::Done, (0, 0, 1)), "{pass:?}");
            assert!(pass.is_whole(), "nothing is left that another pass could do");
        }
        let held = three.held("k").await;
        assert_eq!(held[0], Some(Held::Value(older)), "the last bytes that there are");
        assert!(mend(&held).expect("it is held").is_lost, "{held:?}");
        // A new write mends it.
        three.write("k", Some(b"newer"), &[0, 1, 2]).await;
        assert!(three.are_alike().await);
        three.end().await;
    })
    .await;
}

/// One key that nobody could give kept a store that had taken a lost one's place from ever being
/// filled: it counted for nothing, for every other key, too, and was compared in full every ten seconds
/// with an error line each.
#[tokio::test]
async fn a_store_is_filled_though_a_value_is_lost_and_hears_of_it() {
    locally(async {
        let mut three = Three::start(3_600_000).await;
        three.write("sound", Some(b"sound"), &[0, 1, 2]).await;
        let older = three.write("k", Some(b"older"), &[1]).await;
        let lost = three.write("k", Some(&vec![3; LARGE]), &[0, 2]).await;
        three.rot(0);
        assert_eq!(three.read("k", 0).await, None);
        three.lose_and_fill(2).await;
        let [damaged, older] = [Held::Damaged(lost), Held::Value(older)].map(Some);
        assert_eq!(three.held("k").await, [damaged, older, damaged]);
        three.no_majority_forgets("k").await;
        assert!(matches!(three.held("sound").await[2], Some(Held::Value(_))));
        // Also those that were told tell others.
        three.lose_and_fill(0).await;
        assert_eq!(three.held("k").await, [damaged, older, damaged]);
        three.no_majority_forgets("k").await;
        three.write("k", Some(b"newer"), &[0, 1, 2]).await;
        assert!(three.are_alike().await);
        let pass = three.repair(false).await;
        assert!(pass.is_whole() && pass.lost == 0 && pass.keys_differing == 0, "{pass:?}");
        three.end().await;
    })
    .await;
}

/// A value that one replica had damaged was in no page and no sum. A store that took the place of the
/// other one that had it was filled, counted, and with the third answered 404 for an acknowledged write.
#[tokio::test]
async fn what_was_acknowledged_and_rotted_is_not_answered_as_if_it_had_never_been() {
    locally(async {
        let mut three = Three::start(3_600_000).await;
        three.write("sound", Some(b"sound"), &[0, 1, 2]).await;
        let lost = three.write("k", Some(&vec![3; LARGE]), &[0, 2]).await;
        three.rot(0);
        assert_eq!(three.read("k", 0).await, None);
        three.lose_and_fill(2).await;
        three.no_majority_forgets("k").await;
        assert_eq!(three.held("k").await, [Some(Held::Damaged(lost)); 3], "also who had nothing");
        assert!(three.are_alike().await, "there is nothing to do");
        let pass = three.repair(false).await;
        assert!(pass.is_whole() && pass.keys_differing == 0, "{pass:?}");
        // Whoever has it whole after all heals the others.
        let body = vec![3; LARGE];
        three.write_as(lost, "k", Some(&body), &[1]).await;
        let pass = three.repair(false).await;
        assert_eq!((pass.copied, pass.lost, pass.is_whole()), (2, 0, true), "{pass:?}");
        assert_eq!(three.read("k", 2).await, Some(body));
        three.write("k", None, &[0, 1, 2]).await;
        assert!(three.are_alike().await);
        three.end().await;
    })
    .await;
}

/// A fresh store had acknowledged a write with a replica that was overwritten and then rotted: the last
/// bytes of the key. They were given up for the word of the newer write, which nobody was promised.
#[tokio::test]
async fn what_a_fresh_store_alone_has_is_kept_elsewhere_before_it_hears_of_a_loss() {
    locally(async {
        let mut three = Three::start(3_600_000).await;
        three.write("sound", Some(b"sound"), &[0, 1, 2]).await;
        let last = three.version();
        let lost = three.write("k", Some(&vec![3; LARGE]), &[0]).await;
        three.rot(0);
        assert_eq!(three.read("k", 0).await, None);
        // While another one is silent, the fresh one cannot be filled.
        three.shards[1].stop().await;
        three.shards[2].stop().await;
        three.shards[2].lose_all();
        three.shards[2].start().await;
        let shard = id(2);
        let replace = Change::ReplaceShard { pool: pool(), shard, url: None, lose: false };
        three.agreed.change_planned(Command::ChangeNow { changes: vec![replace] });
        let is_bound = async || three.agreed.store(2).store.is_some();
        three.until("it is bound", is_bound).await;
        three.write_as(last, "k", Some(b"the last bytes"), &[2]).await;
        for _ in 0..2 {
            three.repair(false).await;
            assert_eq!(three.held("k").await[2], Some(Held::Value(last)), "one is silent");
        }
        three.shards[1].start().await;
        let filled = async || !three.agreed.store(2).fresh;
        three.until("it is filled", filled).await;
        let [damaged, kept] = [Held::Damaged(lost), Held::Value(last)].map(Some);
        assert_eq!(three.held("k").await, [damaged, kept, damaged]);
        assert_eq!(three.read("k", 1).await.as_deref(), Some(&b"the last bytes"[..]));
        three.no_majority_forgets("k").await;
        three.end().await;
    })
    .await;
}
