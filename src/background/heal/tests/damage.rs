//! Bytes that one disk has lost are brought by the others, and the wrong ones by nobody.

use std::path::PathBuf;

use super::{Held, PassEnd, Three, locally};
use crate::drivers::native::Got;
use crate::protocol::anti_entropy::mend;

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
        let pass = three.repair(false).await;
        assert_eq!((&pass.end, pass.copied, pass.failed), (&PassEnd::Done, 0, 1), "{pass:?}");
        assert!(!pass.is_whole());
        let held = three.held("k").await;
        assert_eq!(held[0], Some(Held::Value(older)));
        assert!(mend(&held).expect("it is held").is_lost, "{held:?}");
        // A new write mends it.
        three.write("k", Some(b"newer"), &[0, 1, 2]).await;
        assert!(three.are_alike().await);
        three.end().await;
    })
    .await;
}
