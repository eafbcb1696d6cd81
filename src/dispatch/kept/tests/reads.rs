//! Reads, and what the stores hold after them.

use super::store::Does;
use super::{Bench, KEY, old, on_a_worker, until};
use crate::dispatch::kept::{Act, KeptRequest, Wanted};
use crate::dispatch::outcome::{Failure, KeptFailure};
use crate::level::Level;
use crate::protocol::quorum::Reason;

#[test]
fn a_quorum_read_answers_the_newest_and_a_majority_has_it_by_then() {
    on_a_worker(|| async {
        for size in [5, 300_000] {
            let bench = Bench::new(Level::Quorum).await;
            let newest = vec![9; size];
            let stores = bench.replicas();
            stores[0].hold(KEY, old(1), Some(b"older"));
            stores[1].hold(KEY, old(2), Some(&newest));
            // The third does not answer, so that the first two are the majority.
            stores[2].does(Does::Breaks);
            let told = bench.get(Level::Quorum).await.expect("an answer");
            assert_eq!((told.status, &told.body), (200, &newest));
            assert_eq!(told.fields["ringway-version"], old(2).to_string());
            assert_eq!(told.fields["content-type"], "text/plain");
            assert_eq!(told.fields["content-length"], size.to_string());
            assert!(told.fields["ringway-consistency"].starts_with("quorum;acks=2;replicas=3;"));
            let record = stores[0].record(KEY).expect("it was repaired");
            assert_eq!((record.version, record.body), (old(2), newest.clone()));
            assert_eq!(record.kept, "Content-Type: text/plain\r\n");
            // Who is back is repaired by a read that finds it behind, sooner or later.
            stores[2].does(Does::Well);
            let told = bench.get(Level::All).await.expect("an answer");
            assert_eq!(told.body, newest);
            assert_eq!(stores[2].record(KEY).expect("it was repaired").version, old(2));
        }
    });
}

#[test]
fn a_newer_tombstone_hides_the_value_and_is_brought_to_a_majority() {
    on_a_worker(|| async {
        let bench = Bench::new(Level::Quorum).await;
        let stores = bench.replicas();
        stores[0].hold(KEY, old(1), Some(b"older"));
        stores[1].hold(KEY, old(2), None);
        stores[2].does(Does::Breaks);
        let missing = bench.get(Level::Quorum).await.expect_err("it was deleted");
        let Failure::Kept(KeptFailure::NotFound(consistency)) = &missing else {
            panic!("{missing:?}")
        };
        assert!(consistency.starts_with("quorum;acks=2;replicas=3;"), "{consistency}");
        assert!(stores[0].record(KEY).expect("it was repaired").tombstone);
    });
}

#[test]
fn a_body_that_breaks_is_continued_from_another_replica() {
    on_a_worker(|| async {
        for level in [Level::One, Level::Quorum] {
            let bench = Bench::new(Level::Quorum).await;
            for store in bench.replicas() {
                store.hold(KEY, old(1), Some(b"0123456789ab"));
                store.does(Does::CutsBodies(4));
            }
            let told = bench.get(level).await.expect("each gives four bytes");
            assert_eq!((told.status, told.body.as_slice()), (200, &b"0123456789ab"[..]));
            // Thirteen bytes are one too many: the answer is cut, never padded or begun anew.
            for store in bench.replicas() {
                store.hold(KEY, old(2), Some(b"0123456789abc"));
            }
            let broke = bench.get(level).await.expect_err("a byte is missing");
            assert!(matches!(broke, Failure::AnswerBroke), "{broke:?}");
        }
    });
}

#[test]
fn a_read_at_one_asks_the_next_until_one_answers() {
    on_a_worker(|| async {
        let bench = Bench::new(Level::One).await;
        let stores = bench.replicas();
        stores[0].does(Does::Breaks);
        stores[1].does(Does::Breaks);
        stores[2].hold(KEY, old(1), Some(b"hello"));
        let told = bench.get(Level::One).await.expect("the third answers");
        assert_eq!((told.status, told.body.as_slice()), (200, &b"hello"[..]));
        assert!(told.fields["ringway-consistency"].starts_with("one;acks=1;replicas=3;"));
        let refused = bench.get(Level::Quorum).await.expect_err("one is no majority");
        assert!(
            matches!(refused, Failure::Kept(KeptFailure::NotApplied(Reason::TooFew(_), _))),
            "{refused:?}"
        );
        stores[2].does(Does::Breaks);
        let refused = bench.get(Level::One).await.expect_err("nobody answers");
        assert!(matches!(refused, Failure::Kept(KeptFailure::NoReplica)), "{refused:?}");
    });
}

#[test]
fn conditions_and_parts_are_of_the_version_that_is_answered() {
    on_a_worker(|| async {
        let bench = Bench::new(Level::Quorum).await;
        bench.put(Level::All, b"0123456789").await.expect("it is written");
        for level in Level::EVERY {
            let told = bench.get(level).await.expect("an answer");
            let etag = told.fields["etag"].clone();
            let mut request = bench.request(Act::Get, level);
            assert!(request.conditions.take(b"If-None-Match", etag.as_bytes()));
            let told = bench.carry_out(&request, &[], false).await.expect("an answer");
            assert_eq!((told.status, told.body.len()), (304, 0));
            assert_eq!(told.fields["etag"], etag);

            let mut request = bench.request(Act::Get, level);
            assert!(request.conditions.take(b"If-Match", b"\"another\""));
            let failed =
                bench.carry_out(&request, &[], false).await.expect_err("it does not match");
            assert!(matches!(failed, Failure::Kept(KeptFailure::ConditionFailed)), "{failed:?}");

            let wanted = Wanted::read(b"bytes=-3");
            let part = KeptRequest { range: wanted, ..bench.request(Act::Get, level) };
            let told = bench.carry_out(&part, &[], false).await.expect("an answer");
            assert_eq!((told.status, told.body.as_slice()), (206, &b"789"[..]));
            assert_eq!(told.fields["content-range"], "bytes 7-9/10");
            let other = KeptRequest { if_range: Some(b"\"another\""), ..part };
            let told = bench.carry_out(&other, &[], false).await.expect("an answer");
            assert_eq!((told.status, told.body.len()), (200, 10));
            let outside = Wanted::read(b"bytes=10-");
            let outside = KeptRequest { range: outside, ..bench.request(Act::Get, level) };
            let failed = bench.carry_out(&outside, &[], false).await.expect_err("nothing there");
            assert!(matches!(failed, Failure::Kept(KeptFailure::OutsideRange(10))), "{failed:?}");

            let head = bench.request(Act::Head, level);
            let told = bench.carry_out(&head, &[], false).await.expect("an answer");
            assert_eq!((told.status, told.body.len()), (200, 0));
            assert_eq!(told.fields["content-length"], "10");
            assert_eq!((&told.fields["etag"], &told.fields["x-meta-a"]), (&etag, &"b".to_owned()));
        }
    });
}

#[test]
fn a_replica_that_is_late_is_repaired_behind_the_answer() {
    on_a_worker(|| async {
        let bench = Bench::new(Level::Quorum).await;
        let stores = bench.replicas();
        for store in &stores[..2] {
            store.hold(KEY, old(2), Some(b"newest"));
        }
        stores[2].hold(KEY, old(1), Some(b"older"));
        // Whichever two are the first to answer, the third is repaired as well.
        let told = bench.get(Level::Quorum).await.expect("an answer");
        assert_eq!(told.body, b"newest");
        until(|| stores[2].record(KEY).is_some_and(|record| record.version == old(2))).await;
    });
}

/// A disk had turned a bit around; the copy bore the true version, and the digest of what was copied.
/// From then on nobody could tell which of the two was right.
#[test]
fn spoilt_bytes_are_brought_to_nobody() {
    on_a_worker(|| async {
        for size in [5, 300_000] {
            let bench = Bench::new(Level::Quorum).await;
            let whole = vec![9; size];
            let stores = bench.replicas();
            stores[0].hold(KEY, old(1), Some(b"older"));
            stores[1].hold(KEY, old(2), Some(&whole));
            stores[1].alter(KEY, |record| record.body[3] ^= 1);
            stores[2].does(Does::Breaks);
            let head = bench.request(Act::Head, Level::Quorum);
            let refused = bench.carry_out(&head, &[], false).await.expect_err("no majority has it");
            assert!(
                matches!(refused, Failure::Kept(KeptFailure::NotApplied(Reason::TooFew(_), _))),
                "{refused:?}"
            );
            assert_eq!(stores[0].record(KEY).expect("it is held").body, b"older");
            // Where another one has it whole, that is the one to copy from.
            stores[2].does(Does::Well);
            stores[2].hold(KEY, old(2), Some(&whole));
            let head = bench.request(Act::Head, Level::All);
            bench.carry_out(&head, &[], false).await.expect("an answer");
            let record = stores[0].record(KEY).expect("it was repaired");
            assert!(record.version == old(2) && record.body == whole);
        }
    });
}

#[test]
fn a_damaged_replica_is_passed_over_and_brought_the_value_anew() {
    on_a_worker(|| async {
        for size in [5, 300_000] {
            let whole = vec![9; size];
            let some_damaged = async |count: usize| {
                let bench = Bench::new(Level::Quorum).await;
                let stores = bench.replicas();
                stores.iter().for_each(|store| store.hold(KEY, old(2), Some(&whole)));
                stores[..count].iter().for_each(|store| {
                    store.alter(KEY, |record| (record.damaged, record.body) = (true, Vec::new()));
                });
                bench
            };
            // At `one` by a hint, at the others before the answer.
            let bench = some_damaged(2).await;
            let told = bench.get(Level::One).await.expect("the third has it");
            assert_eq!((told.status, &told.body), (200, &whole));
            assert_eq!(told.fields["shard"], bench.shard_name(bench.replicas()[2]));
            let hints: Vec<_> =
                bench.replicas().iter().map(|store| bench.hints_for(store)).collect();
            assert_eq!(hints[2], 0, "{hints:?}");
            for level in [Level::Quorum, Level::All] {
                let bench = some_damaged(2).await;
                let told = bench.get(level).await.expect("the third has it");
                assert_eq!((told.status, &told.body), (200, &whole));
                let is_whole =
                    |record: super::store::Record| !record.damaged && record.body == whole;
                let stores = bench.replicas();
                until(|| stores.iter().all(|store| store.record(KEY).is_some_and(is_whole))).await;
            }
            // What nobody has is not answered as if it had never been.
            let bench = some_damaged(3).await;
            let refused = bench.get(Level::One).await.expect_err("nobody has it");
            assert!(matches!(refused, Failure::Kept(KeptFailure::NoReplica)), "{refused:?}");
            let refused = bench.get(Level::Quorum).await.expect_err("nobody has it");
            assert!(
                matches!(refused, Failure::Kept(KeptFailure::NotApplied(Reason::Damaged, _))),
                "{refused:?}"
            );
            bench.put(Level::Quorum, b"new").await.expect("it can be written again");
            assert_eq!(bench.get(Level::Quorum).await.expect("an answer").body, b"new");
        }
    });
}

/// Each read at `one` of a key that no replica could give noted hints for all of them. A client that
/// polled it kept its shards *catching up*, so that reads avoided them for every other key, and nothing
/// that was deleted in the pool was ever forgotten.
#[test]
fn what_no_replica_can_give_leaves_no_hints() {
    on_a_worker(|| async {
        // Damaged on all, on all that have it, and where another has an older one.
        for others in [[Some(2), Some(2)], [Some(2), None], [Some(1), None]] {
            let bench = Bench::new(Level::Quorum).await;
            let stores = bench.replicas();
            for (store, stamp) in stores.iter().zip([Some(2)].into_iter().chain(others)) {
                let Some(stamp) = stamp else { continue };
                store.hold(KEY, old(stamp), Some(b"x"));
                let is_lost = stamp == 2;
                store.alter(KEY, |record| record.damaged = is_lost);
            }
            for _ in 0..3 {
                for act in [Act::Get, Act::Head] {
                    let request = bench.request(act, Level::One);
                    let told = bench.carry_out(&request, &[], false).await;
                    assert_eq!(told.is_ok(), others[0] == Some(1));
                }
            }
            let hints: Vec<_> = stores.iter().map(|store| bench.hints_for(store)).collect();
            assert_eq!(hints, [0, 0, 0], "{others:?}");
            // Once one of them can, the others are brought it.
            stores[2].hold(KEY, old(3), Some(b"y"));
            stores[1].alter(KEY, |record| record.damaged = true);
            bench.get(Level::One).await.expect("the third has it");
            assert_eq!(bench.hints_for(stores[0]), 1);
        }
    });
}

/// What had come of a spoilt body was with the client already: the rest from another replica would
/// make a whole answer of it, of right length and wrong bytes.
#[test]
fn a_body_that_proves_to_be_spoilt_is_not_continued() {
    on_a_worker(|| async {
        for level in [Level::One, Level::Quorum] {
            let bench = Bench::new(Level::Quorum).await;
            for store in bench.replicas() {
                store.hold(KEY, old(1), Some(b"0123456789ab"));
                store.does(Does::SpoilsBodies(4));
            }
            let broke = bench.get(level).await.expect_err("it is cut");
            assert!(matches!(broke, Failure::AnswerBroke), "{broke:?}");
            let left = bench.replicas().iter().map(|store| bench.hints_for(store)).sum::<usize>();
            assert_eq!(left, 1, "who was found out is brought it anew");
        }
    });
}

/// A slow client was being sent a rotten value; it was found out by another read meanwhile, and healed.
/// The store said "I have it, whole" when it was asked, or it was gone, or could not write down what it
/// had found; and the last piece came from another replica: 200, of right length, with wrong bytes.
#[test]
fn what_was_spoilt_before_a_replica_broke_off_never_comes_to_a_good_end() {
    on_a_worker(|| async {
        for size in [12, 90_000] {
            let whole: Vec<u8> = (0..=250).cycle().take(size).collect();
            for (level, does) in [
                (Level::One, Does::CutsBodies(size / 3)),
                (Level::One, Does::CutsAndGoes(size / 3)),
                (Level::Quorum, Does::CutsBodies(size / 3)),
            ] {
                for place in 0..3 {
                    let bench = Bench::new(Level::Quorum).await;
                    for store in bench.replicas() {
                        store.hold(KEY, old(1), Some(&whole));
                        store.does(does);
                    }
                    let spoilt = bench.replicas()[place];
                    spoilt.alter(KEY, |record| record.body[2] ^= 1);
                    // Each gives a third; the bad byte is in the first.
                    match bench.get(level).await {
                        Ok(told) => {
                            assert!(told.body == whole);
                            assert_ne!(told.fields["shard"], bench.shard_name(spoilt));
                        }
                        Err(broke) => assert!(matches!(broke, Failure::AnswerBroke), "{broke:?}"),
                    }
                }
            }
        }
    });
}
