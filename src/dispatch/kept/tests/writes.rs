//! Writes, and what the stores hold after them.

use std::collections::VecDeque;
use std::sync::Arc;

use super::store::Does;
use super::{Bench, KEY, Told, old, on_a_worker, topology, until};
use crate::dispatch::kept::{Act, KeptRequest, run};
use crate::dispatch::outcome::{Failure, KeptFailure, Note};
use crate::dispatch::seam::{Body, BodyError, Part};
use crate::dispatch::view::View;
use crate::ids::{Epoch, StoreId};
use crate::level::Level;
use crate::net::http1::framing::Framing;
use crate::protocol::quorum::Reason;
use crate::protocol::replica::Refusal;

fn bodies(bench: &Bench) -> Vec<Option<Vec<u8>>> {
    bench.replicas().iter().map(|store| store.record(KEY).map(|record| record.body)).collect()
}

#[test]
fn a_write_reaches_all_replicas_under_one_version_above_what_they_held() {
    on_a_worker(|| async {
        let bench = Bench::new(Level::Quorum).await;
        bench.replicas()[2].hold(KEY, old(7), Some(b"former"));
        for level in Level::EVERY {
            let told = bench.put(level, level.as_str().as_bytes()).await.expect("it is written");
            assert_eq!(told.status, 204);
            let version = &told.fields["ringway-version"];
            assert_eq!(told.fields["etag"], format!("\"{version}\""));
            let consistency = &told.fields["ringway-consistency"];
            assert!(consistency.starts_with(&format!("{level};acks=")), "{consistency}");
            let epoch = bench.pool.agreed.epoch;
            assert!(consistency.ends_with(&format!(";replicas=3;epoch={epoch}")), "{consistency}");
            let body = Some(level.as_str().as_bytes().to_vec());
            until(|| bodies(&bench).iter().all(|held| *held == body)).await;
            for store in bench.replicas() {
                let record = store.record(KEY).expect("it is held");
                assert_eq!(
                    (record.version.to_string(), record.kept.as_str()),
                    (version.clone(), "X-Meta-A: b\r\n")
                );
                assert!(record.version > old(7) && store.state.borrow().stages.is_empty());
                assert_eq!(bench.hints_for(store), 0);
            }
        }
    });
}

#[test]
fn one_store_that_fails_costs_the_client_nothing_and_gets_a_hint() {
    on_a_worker(|| async {
        for does in [Does::Breaks, Does::BreaksAtCommit, Does::Full] {
            let bench = Bench::new(Level::Quorum).await;
            bench.replicas()[1].does(does);
            let told = bench.put(Level::Quorum, b"hello").await.expect("two are enough");
            assert_eq!(told.status, 204);
            until(|| bench.hints_for(bench.replicas()[1]) == 1).await;
            let refused = bench.put(Level::All, b"all of them").await.expect_err("one is missing");
            let is_unknown = matches!(refused, Failure::Kept(KeptFailure::Unknown(_)));
            // A commit that was sent may have been carried out: by the two others it surely was.
            assert_eq!(is_unknown, does == Does::BreaksAtCommit, "{refused}");
            assert_eq!(bodies(&bench)[0].as_deref() == Some(b"all of them"), is_unknown);
        }
    });
}

#[test]
fn two_stores_that_fail_leave_nothing_behind() {
    on_a_worker(|| async {
        let bench = Bench::new(Level::Quorum).await;
        for store in &bench.replicas()[..2] {
            store.does(Does::Full);
        }
        let refused = bench.put(Level::Quorum, b"hello").await.expect_err("too few");
        let full = Some(Refusal::Full);
        assert!(
            matches!(&refused, Failure::Kept(KeptFailure::NotApplied(Reason::TooFew(_), why)) if *why == full),
            "{refused:?}"
        );
        let last = bench.replicas()[2];
        until(|| last.state.borrow().stages.is_empty()).await;
        assert!(last.record(KEY).is_none());
        // One is enough for the weakest level.
        bench.put(Level::One, b"hello").await.expect("one is enough");
        assert_eq!(last.record(KEY).expect("it is held").body, b"hello");
        for store in &bench.replicas()[..2] {
            until(|| bench.hints_for(store) == 1).await;
        }
    });
}

#[test]
fn who_lost_its_stage_gets_a_copy() {
    on_a_worker(|| async {
        let large = vec![7; 300_000];
        for body in [&b"hello"[..], &large] {
            let bench = Bench::new(Level::Quorum).await;
            bench.replicas()[0].does(Does::ForgetsStages);
            bench.put(Level::All, body).await.expect("all of them have it");
            assert!(bodies(&bench).iter().all(|held| held.as_deref() == Some(body)));
            assert_eq!(bench.hints_for(bench.replicas()[0]), 0);
        }
    });
}

#[test]
fn a_large_body_passes_through_and_a_store_that_takes_none_of_it_is_left_behind() {
    on_a_worker(|| async {
        let pieces: Vec<Vec<u8>> = (0..64_u8).map(|n| vec![n; 250_000]).collect();
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let whole = pieces.concat();
        for framing in [Framing::Length(whole.len() as u64), Framing::Chunked] {
            let bench = Bench::new(Level::Quorum).await;
            let request = KeptRequest { framing, ..bench.request(Act::Put, Level::Quorum) };
            bench.carry_out(&request, &pieces, false).await.expect("it is written");
            until(|| bodies(&bench).iter().all(|held| held.as_ref() == Some(&whole))).await;
            bench.replicas()[0].does(Does::Deaf);
            bench.worker.upstreams.clear();
            bench.carry_out(&request, &pieces, false).await.expect("two are enough");
            assert_eq!(bench.hints_for(bench.replicas()[0]), 1);
            assert_eq!(bodies(&bench)[1].as_ref(), Some(&whole));
        }
    });
}

#[test]
fn a_body_that_breaks_off_is_nobodys_value() {
    on_a_worker(|| async {
        let bench = Bench::new(Level::Quorum).await;
        let framing = Framing::Length(1_000_000);
        for level in Level::EVERY {
            let request = KeptRequest { framing, ..bench.request(Act::Put, level) };
            let refused = bench.carry_out(&request, &[&[1; 200_000]], true).await;
            let refused = refused.expect_err("the rest never came");
            assert!(matches!(refused, Failure::Kept(KeptFailure::Body(_))), "{refused:?}");
            if level == Level::One {
                assert_eq!(in_flight(&bench), 0);
            }
        }
        until(|| in_flight(&bench) == 0).await;
        assert!(bodies(&bench).iter().all(Option::is_none));
        assert!(bench.replicas().iter().all(|store| bench.hints_for(store) == 0));
    });
}

fn in_flight(bench: &Bench) -> usize {
    bench.pool.shards.iter().map(|shard| shard.in_flight()).sum()
}

/// A body of which nothing comes any more, and no end either.
struct Stalls(bool);

impl Body for Stalls {
    async fn next(&mut self) -> Result<Part<'_>, BodyError> {
        match std::mem::replace(&mut self.0, true) {
            false => Ok(Part::Data(&[1; 200_000])),
            true => std::future::pending().await,
        }
    }
    async fn ask(&mut self) -> Result<(), BodyError> {
        Ok(())
    }
    fn has_more_here(&self) -> bool {
        false
    }
    fn is_complete(&self) -> bool {
        false
    }
}

/// At `one` the uploads went on without their client: each kept a connection, and a place among the
/// shard's requests, for five seconds, and then left a hint of a version that nobody has.
#[test]
fn an_upload_whose_client_has_gone_holds_nothing() {
    on_a_worker(|| async {
        for level in Level::EVERY {
            let bench = Bench::new(Level::Quorum).await;
            let framing = Framing::Length(1_000_000);
            let request = KeptRequest { framing, ..bench.request(Act::Put, level) };
            let (mut body, mut told, mut note) = (Stalls(false), Told::default(), Note::default());
            bench.worker.timers.refresh();
            let timer = bench.worker.timers.register();
            let mut put = Box::pin(run(
                &bench.worker,
                &timer,
                &bench.pool,
                &request,
                &mut body,
                &mut told,
                &mut note,
            ));
            std::future::poll_fn(|cx| {
                assert!(put.as_mut().poll(cx).is_pending(), "its body does not end");
                match in_flight(&bench) {
                    3 => std::task::Poll::Ready(()),
                    _ => std::task::Poll::Pending,
                }
            })
            .await;
            drop(put);
            // At the others the stores are told to forget what they staged.
            if level == Level::One {
                assert_eq!(in_flight(&bench), 0);
            }
            until(|| in_flight(&bench) == 0).await;
            assert!(bodies(&bench).iter().all(Option::is_none));
            assert!(bench.replicas().iter().all(|store| bench.hints_for(store) == 0));
        }
    });
}

#[test]
fn a_deletion_leaves_a_tombstone_above_what_was_there() {
    on_a_worker(|| async {
        let bench = Bench::new(Level::Quorum).await;
        bench.put(Level::Quorum, b"hello").await.expect("it is written");
        let delete = bench.request(Act::Delete, Level::Quorum);
        let told = bench.carry_out(&delete, &[], false).await.expect("it is deleted");
        assert_eq!((told.status, told.fields.get("etag")), (204, None));
        assert!(told.fields.contains_key("ringway-version"));
        let is_deleted = || {
            let records = bench.replicas().into_iter().map(|store| store.record(KEY));
            records.flatten().filter(|record| record.tombstone).count() == 3
        };
        until(is_deleted).await;
        // Deleting what is not there is no error: a repeat is answered as the first.
        assert_eq!(bench.carry_out(&delete, &[], false).await.expect("again").status, 204);
    });
}

#[test]
fn without_a_lease_nothing_is_sent() {
    on_a_worker(|| async {
        let bench = Bench::new(Level::Quorum).await;
        bench.grant(0);
        for level in Level::EVERY {
            let refused = bench.put(level, b"hello").await.expect_err("no lease");
            let no_lease = |failure: &Failure| {
                matches!(failure, Failure::Kept(KeptFailure::NotApplied(Reason::NoLease, _)))
            };
            assert!(no_lease(&refused), "{refused:?}");
            let refused = bench.get(level).await.expect_err("no lease");
            assert!(no_lease(&refused), "{refused:?}");
        }
        assert!(bench.stores.iter().all(|store| store.state.borrow().asked.is_empty()));
    });
}

#[test]
fn a_client_that_leaves_after_the_commit_was_sent_leaves_no_torn_write() {
    on_a_worker(|| async {
        let bench = Bench::new(Level::Quorum).await;
        bench.put(Level::Quorum, b"former").await.expect("it is written");
        let framing = Framing::Length(5);
        let request = KeptRequest { framing, ..bench.request(Act::Put, Level::All) };
        let commits = || -> usize {
            let asked = |store: &&super::FakeStore| {
                let state = store.state.borrow();
                state.asked.iter().filter(|first| first.starts_with("POST")).count()
            };
            bench.stores.iter().map(|store| asked(&store)).sum()
        };
        until(|| commits() == 3).await;
        {
            let mut put = Box::pin(bench.carry_out(&request, &[b"later"], false));
            // Polled until the first store has the commit, and dropped.
            std::future::poll_fn(|cx| {
                let polled = put.as_mut().poll(cx);
                if polled.is_ready() || commits() > 3 {
                    return std::task::Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                std::task::Poll::Pending
            })
            .await;
        }
        until(|| bodies(&bench).iter().all(|held| held.as_deref() == Some(b"later"))).await;
    });
}

/// A store was told of an epoch that this node has not applied yet.
#[test]
fn a_node_that_is_behind_catches_up_and_goes_on_only_with_the_same_stores() {
    on_a_worker(|| async {
        for is_replaced in [false, true] {
            let mut bench = Bench::new(Level::Quorum).await;
            for store in &bench.stores {
                store.does(Does::Knows(2));
            }
            if is_replaced {
                // Another store has the shard's name: what was known of the former is not known of it.
                for store in &mut bench.stores {
                    store.id = StoreId([store.id.0[0] + 9; 16]);
                }
            }
            let topology = topology(&bench.stores, Level::Quorum, 2);
            let view = View::build(topology, None, 1, |_| Arc::clone(&bench.pool.settings));
            assert_eq!(view.pools[0].agreed.epoch, Epoch(2));
            // Each exchange finds the one that it knows at first.
            let mut looks =
                bench.newer.borrow().iter().cycle().take(3).cloned().collect::<VecDeque<_>>();
            looks.push_back(Arc::new(view));
            *bench.newer.borrow_mut() = looks;
            for level in Level::EVERY {
                let put = bench.put(level, b"hello").await;
                assert_eq!(put.is_err(), is_replaced, "{level}: {put:?}");
                let got = bench.get(level).await;
                assert_eq!(got.is_err(), is_replaced, "{level}: {got:?}");
            }
        }
    });
}

/// A body that passes through was sent once, to a store that refused it for its epoch. Sent again it
/// was what the window still had: nothing, ended in good order; and all stores took that for the
/// value.
#[test]
fn a_body_that_was_begun_is_not_sent_again_from_its_middle() {
    on_a_worker(|| async {
        let whole = vec![7; 300_000];
        for framing in [Framing::Length(whole.len() as u64), Framing::Chunked] {
            for level in Level::EVERY {
                let bench = Bench::new(Level::Quorum).await;
                for store in &bench.stores {
                    store.does(Does::Knows(2));
                }
                let topology = topology(&bench.stores, Level::Quorum, 2);
                let view = View::build(topology, None, 1, |_| Arc::clone(&bench.pool.settings));
                *bench.newer.borrow_mut() = [Arc::new(view)].into();
                let request = KeptRequest { framing, ..bench.request(Act::Put, level) };
                let put = bench.carry_out(&request, &[&whole], false).await;
                let held = bodies(&bench);
                for body in held.iter().flatten() {
                    assert_eq!(body.len(), whole.len(), "{level}, {framing:?}: {put:?}");
                }
                assert!(put.is_err() || held.iter().flatten().count() > 0, "{put:?}");
            }
        }
    });
}

/// Deletions of other keys were collected between the two rounds. The stores said "superseded", and
/// the client was told that its write was done; nobody held it.
#[test]
fn what_stores_refuse_for_a_watermark_is_not_acknowledged() {
    on_a_worker(|| async {
        let bench = Bench::new(Level::Quorum).await;
        for store in &bench.replicas()[..2] {
            store.does(Does::Collects);
        }
        for body in [&b"hello"[..], &[7; 300_000]] {
            let refused = bench.put(Level::Quorum, body).await.expect_err("two do not have it");
            let is_unknown =
                matches!(refused, Failure::Kept(KeptFailure::Unknown(Reason::Forgotten)));
            assert!(is_unknown, "{refused:?}");
        }
        let delete = bench.request(Act::Delete, Level::All);
        let refused = bench.carry_out(&delete, &[], false).await.expect_err("two did nothing");
        assert!(matches!(refused, Failure::Kept(KeptFailure::Unknown(_))), "{refused:?}");
        // What is refused counts as no acknowledgement.
        let acked = || bench.pool.shards.iter().filter(|shard| shard.metrics.acks.sum() > 0);
        until(|| acked().count() == 1).await;
        bench.put(Level::One, b"hello").await.expect("one has it");
        bench.replicas()[2].does(Does::Collects);
        let refused = bench.put(Level::One, b"hello").await.expect_err("none has it");
        assert!(
            matches!(refused, Failure::Kept(KeptFailure::NotApplied(Reason::Forgotten, None))),
            "{refused:?}"
        );
    });
}
