//! What a pass may conclude, and what a collection takes at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Held, Three, id, locally, pool};
use crate::cluster::{Change, Command};
use crate::protocol::replica::words::WATERMARK_KEYS_MAX;

/// Stands before a store, and closes a connection on which a request comes that it is deaf to.
#[derive(Clone, Default)]
struct Gate {
    is_deaf: Arc<AtomicBool>,
    closed: Arc<AtomicU64>,
}

impl Gate {
    async fn before(&self, store: SocketAddr, deaf_to: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let gate = self.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(gate.clone().pass(client, store, deaf_to));
            }
        });
        address
    }

    async fn pass(self, client: TcpStream, store: SocketAddr, deaf_to: &'static [u8]) {
        let Ok(store) = TcpStream::connect(store).await else { return };
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_store, mut to_store) = store.into_split();
        let back = tokio::spawn(async move {
            let _ended = tokio::io::copy(&mut from_store, &mut to_client).await;
        });
        // A node waits for each answer: so a request begins where something comes.
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
            if bytes[..count].starts_with(deaf_to) && self.is_deaf.load(Ordering::Relaxed) {
                self.closed.fetch_add(1, Ordering::Relaxed);
                break;
            }
            if to_store.write_all(&bytes[..count]).await.is_err() {
                break;
            }
        }
        back.abort();
    }
}

/// A key that lacked on a replica which then was silent, at the second look, was taken for one that
/// had come meanwhile: the pass was whole, and what was known to be missing was forgotten.
#[tokio::test]
async fn a_replica_that_is_silent_at_the_second_look_lacks_what_it_lacked() {
    locally(async {
        let gate = Gate::default();
        let door = async |shard, store| match shard {
            2 => gate.before(store, b"HEAD ").await,
            _ => store,
        };
        let mut three = Three::start_behind(3_600_000, door).await;
        three.write("k", Some(b"acknowledged"), &[0, 1]).await;
        gate.is_deaf.store(true, Ordering::Relaxed);
        let pass = three.repair(false).await;
        assert!(gate.closed.load(Ordering::Relaxed) > 0, "it was looked at twice");
        assert!(!pass.is_whole() && pass.failed > 0 && pass.copied == 0, "{pass:?}");
        gate.is_deaf.store(false, Ordering::Relaxed);
        let pass = three.repair(false).await;
        assert!(pass.is_whole() && pass.copied == 1, "{pass:?}");
        assert!(three.are_alike().await);
        three.end().await;
    })
    .await;
}

/// All keys of a hash tag are in one slot. More tombstones than a store takes in one request stopped
/// the collection of this slot, and of all behind it, for ever.
#[tokio::test]
async fn more_tombstones_than_one_request_has_are_collected() {
    locally(async {
        let mut three = Three::start(1).await;
        let token = three.pool().agreed.ring.token(b"/tag");
        for number in 0..WATERMARK_KEYS_MAX + 44 {
            let (key, version) = (format!("tag/{number}"), three.version());
            three.write_at(token, version, &key, None, &[0, 1, 2]).await;
        }
        // One in a slot behind it, and one that is not to be taken for deleted.
        three.write("other", None, &[0, 1, 2]).await;
        three.write("kept", Some(b"kept"), &[0, 1, 2]).await;
        three.until("all have forgotten", async || three.tombstones().await == [0, 0, 0]).await;
        assert!(three.held("kept").await.iter().all(|held| matches!(held, Some(Held::Value(_)))));
        assert!(three.are_alike().await);
        three.end().await;
    })
    .await;
}

/// A defect ended one of the loops, without a word, until the node was started again; and a pass that
/// met one was "running" for ever, so that none was begun any more.
#[tokio::test]
async fn healing_goes_on_after_a_defect() {
    locally(async {
        let defects = Arc::new(AtomicU64::new(0));
        let meets = Arc::clone(&defects);
        let mut three = Three::start_with(
            3_600_000,
            async |_, store| store,
            move || {
                let left = meets
                    .try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
                assert!(left.is_err(), "a defect, as the test wants it");
            },
        )
        .await;
        let orders = three.healer.orders();
        defects.store(5, Ordering::Relaxed);
        // Whoever of the loops looks first.
        let restarts = || {
            let families = orders.export();
            let name = "ringway_heal_loop_restarts_total";
            let family = families.iter().find(|family| family.name() == name);
            family.map_or(0.0, |family| {
                family.get_metric().iter().map(|metric| metric.get_counter().get_value()).sum()
            })
        };
        three.until("it has met them", async || restarts() >= 1.0).await;
        three.until("all of them", async || defects.load(Ordering::Relaxed) == 0).await;
        let version = three.write("hinted", Some(b"x"), &[0, 1]).await;
        three.hint("hinted", 2, version);
        three.write("unknown", Some(b"x"), &[0, 1]).await;
        three
            .until("hints are replayed", async || {
                three.held("hinted").await[2].is_some_and(|held| held.record().is_some())
            })
            .await;
        let pass = three.repair(false).await;
        assert!(pass.is_whole(), "{pass:?}");
        assert!(three.are_alike().await);
        three.end().await;
    })
    .await;
}

/// The store of two replacements ago came back to its address and was taken for a fresh one: what had
/// been deleted since, and forgotten by the others, came back with it.
#[tokio::test]
async fn a_store_with_copies_from_before_does_not_stand_for_a_lost_one() {
    locally(async {
        let mut three = Three::start(3_600_000).await;
        three.write("k", Some(b"x"), &[0, 1, 2]).await;
        let replace =
            || Change::ReplaceShard { pool: pool(), shard: id(2), url: None, lose: false };
        three.shards[2].stop().await;
        let empty = tempfile::tempdir().expect("a folder");
        let first = std::mem::replace(&mut three.shards[2].folder, empty);
        three.agreed.change_planned(Command::ChangeNow { changes: vec![replace()] });
        three.shards[2].start().await;
        let is_filled = async |three: &Three| {
            let state = three.agreed.store(2);
            state.store.is_some() && !state.fresh
        };
        three.until("the second is filled", async || is_filled(&three).await).await;
        // That is lost as well, and the first comes back in its place.
        three.shards[2].stop().await;
        three.shards[2].folder = first;
        three.agreed.change_planned(Command::ChangeNow { changes: vec![replace()] });
        three.shards[2].start().await;
        // Looks come every second.
        tokio::time::sleep(Duration::from_millis(3_500)).await;
        assert_eq!(three.agreed.store(2).store, None, "it has copies, and is not empty");
        three.shards[2].stop().await;
        three.shards[2].lose_all();
        three.shards[2].start().await;
        three.until("an empty one is filled", async || is_filled(&three).await).await;
        assert!(three.are_alike().await);
        three.end().await;
    })
    .await;
}
