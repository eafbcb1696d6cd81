//! Has this client asked too often?
//!
//! Each route may say how many requests a second it takes from one client, and how many at once.
//! The rule is GCRA (ITU-T I.371, annex A): a client has a *theoretical arrival time*, the moment
//! at which it will have paid for what it asked; a request is taken while that lies no further
//! ahead than the burst allows, and moves it by one interval. That is a token bucket that needs one
//! number and no timer.
//!
//! The numbers of all clients and routes stand in one table of fixed size, shared by the workers
//! and without locks: 16,384 lines of eight slots, 1 MiB. A client's hash says which line is its,
//! and 16 further bits of it tell it from the others of the line. What follows from that:
//!
//! * Memory is bounded, whoever asks. When the slots of a line are all taken by clients that still
//!   owe time, the one that owes least is forgotten, and begins with a full burst again: under a
//!   flood from very many addresses the limit gets looser, never tighter.
//! * Two clients whose line and 16 bits are equal share their limit: one pair in 2^30, about eight
//!   pairs in a full table. The hash is SipHash-1-3 under a key that each process draws, so nobody
//!   can choose an address to be somebody else's twin.
//! * Two workers that see a new client at the same moment may give it two slots, of which one is
//!   looked at later: a burst may once be had twice.
//!
//! A client is an IPv4 address, or the /64 of an IPv6 address, which is what one subscriber gets.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ids::RouteName;
use crate::limits::RateLimit;

/// Time is counted in eighths of a microsecond: fine enough for 100,000 requests a second.
const TICKS_PER_MICRO: u64 = 8;

const TICKS_PER_SECOND: u64 = 1_000_000 * TICKS_PER_MICRO;

/// Slots of a line, as many as a cache line holds.
const SLOTS: usize = 8;

const LINES: usize = 1 << 14;

/// The lower bits of a slot are the time, which comes round after a year; the upper ones tell
/// clients apart.
const TIME_BITS: u32 = 48;

const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

/// No limit lets a client's time lie further ahead: 25 days.
const AHEAD_MAX: u64 = 1 << 44;

/// How far a worker's clock may be behind that of the worker which wrote last: each looks at it
/// when a request begins, and then reads the request.
const BEHIND_MAX: u64 = TICKS_PER_SECOND;

/// What clients have asked, on all routes with a limit.
#[derive(Debug)]
pub struct Rates {
    lines: Box<[Line]>,
    key: (u64, u64),
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([AtomicU64; SLOTS]);

/// The limit of one route, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit {
    /// Tells this route's clients from those of others; hangs on the route's name, so that it
    /// survives a reload.
    salt: u64,
    interval: u64,
    /// How far ahead a client's time may be for another request to be taken.
    tolerance: u64,
}

/// A request that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany {
    /// Until the next one is, in microseconds.
    pub(super) wait_micros: u64,
}

/// What is done with one client's time.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// The request is taken, and the time is this from now on.
    Take(u64),
    /// It is not, for so many ticks.
    Refuse(u64),
}

/// GCRA: `ahead` is how far a client's time lies before the present one.
fn step(ahead: u64, limit: &Limit) -> Step {
    match ahead.checked_sub(limit.tolerance) {
        None | Some(0) => Step::Take(ahead + limit.interval),
        Some(over) => Step::Refuse(over),
    }
}

impl Rates {
    /// A table in which nobody has asked yet. `key` must be one that nobody can guess.
    #[must_use]
    pub fn new(key: [u8; 16]) -> Self {
        let half = |at: usize| {
            u64::from_le_bytes(key[at..at + 8].try_into().expect("eight of sixteen bytes"))
        };
        Self { lines: (0..LINES).map(|_| Line::default()).collect(), key: (half(0), half(8)) }
    }

    /// The limit of a route, as [`take`](Self::take) needs it.
    pub(super) fn limit(&self, route: &RouteName, limit: RateLimit) -> Limit {
        let interval = TICKS_PER_SECOND / u64::from(limit.requests_per_second.max(1));
        let tolerance = interval * u64::from(limit.burst.saturating_sub(1));
        let salt = route.as_str().as_bytes().chunks(8).fold(0, |salt, chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            sip_hash(self.key, [salt, u64::from_le_bytes(word)])
        });
        Limit { salt, interval, tolerance }
    }

    /// Counts a request of `client` at `now_micros`.
    pub(super) fn take(
        &self,
        limit: &Limit,
        client: IpAddr,
        now_micros: u64,
    ) -> Result<(), TooMany> {
        let hash = sip_hash(self.key, [limit.salt, word_of(client)]);
        let line = usize::try_from(hash).unwrap_or(usize::MAX) & (LINES - 1);
        let tag = hash & !TIME_MASK;
        let now = now_micros * TICKS_PER_MICRO;
        let slots = &self.lines[line].0;
        loop {
            let (slot, seen) = find(slots, tag, now);
            let ahead = if seen & !TIME_MASK == tag { ahead_of(seen, now, limit) } else { 0 };
            let next = match step(ahead, limit) {
                Step::Take(ahead) => tag | (now.wrapping_add(ahead) & TIME_MASK),
                Step::Refuse(ticks) => {
                    return Err(TooMany { wait_micros: ticks.div_ceil(TICKS_PER_MICRO) });
                }
            };
            // Nothing else is published by this, so no order with other memory is needed.
            let swapped =
                slot.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed);
            if swapped.is_ok() {
                return Ok(());
            }
        }
    }
}

/// The client's slot, or the one that it gets, and what stands there.
fn find(slots: &[AtomicU64; SLOTS], tag: u64, now: u64) -> (&AtomicU64, u64) {
    let mut best = (&slots[0], 0, u64::MAX);
    for slot in slots {
        let seen = slot.load(Ordering::Relaxed);
        if seen & !TIME_MASK == tag {
            return (slot, seen);
        }
        let ahead = seen.wrapping_sub(now) & TIME_MASK;
        let ahead = if ahead <= AHEAD_MAX { ahead } else { 0 };
        if ahead < best.2 {
            best = (slot, seen, ahead);
        }
    }
    (best.0, best.1)
}

/// How far a slot's time lies ahead. One that cannot be, because the time has come round since or
/// the limit was lowered, counts as past.
fn ahead_of(seen: u64, now: u64, limit: &Limit) -> u64 {
    let ahead = seen.wrapping_sub(now) & TIME_MASK;
    if ahead <= limit.tolerance + limit.interval + BEHIND_MAX { ahead } else { 0 }
}

/// What tells one client from another.
fn word_of(client: IpAddr) -> u64 {
    match client.to_canonical() {
        // No IPv6 network begins like this (RFC 4291): `::/8` is reserved.
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            [a, b, c, d].into_iter().fold(0, |word, part| word << 16 | u64::from(part))
        }
    }
}

/// SipHash-1-3 (Aumasson and Bernstein 2012) of two words: one round for each, three at the end.
fn sip_hash(key: (u64, u64), message: [u64; 2]) -> u64 {
    let mut v = [
        key.0 ^ 0x736f_6d65_7073_6575,
        key.1 ^ 0x646f_7261_6e64_6f6d,
        key.0 ^ 0x6c79_6765_6e65_7261,
        key.1 ^ 0x7465_6462_7974_6573,
    ];
    // The last word has the length in its upper byte.
    for word in [message[0], message[1], 16 << 56] {
        v[3] ^= word;
        sip_round(&mut v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    (0..3).for_each(|_| sip_round(&mut v));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn sip_round([a, b, c, d]: &mut [u64; 4]) {
    *a = a.wrapping_add(*b);
    *b = b.rotate_left(13) ^ *a;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*d);
    *d = d.rotate_left(16) ^ *c;
    *a = a.wrapping_add(*d);
    *d = d.rotate_left(21) ^ *a;
    *c = c.wrapping_add(*b);
    *b = b.rotate_left(17) ^ *c;
    *c = c.rotate_left(32);
}

#[cfg(test)]
mod tests {
    use std::hash::Hasher;
    use std::sync::atomic::AtomicUsize;

    use proptest::prelude::{any, prop};
    use proptest::{prop_assert_eq, proptest};

    use super::*;

    fn limit(rates: &Rates, requests_per_second: u32, burst: u32) -> Limit {
        let route = RouteName::new("all").expect("a name");
        rates.limit(&route, RateLimit { requests_per_second, burst })
    }

    fn client(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    /// The standard library's hasher is SipHash-1-3 with a key of zeros.
    #[test]
    fn the_hash_is_siphash_1_3() {
        for (a, b) in [(0, 0), (1, 2), (u64::MAX, 0x0123_4567_89ab_cdef)] {
            let mut theirs = std::collections::hash_map::DefaultHasher::new();
            theirs.write_u64(a);
            theirs.write_u64(b);
            assert_eq!(sip_hash((0, 0), [a, b]), theirs.finish());
        }
    }

    #[test]
    fn clients_are_addresses_or_networks() {
        let word = |text: &str| word_of(text.parse().expect("an address"));
        assert_eq!(word("192.0.2.1"), word("::ffff:192.0.2.1"));
        assert_ne!(word("192.0.2.1"), word("192.0.2.2"));
        assert_eq!(word("2001:db8:1:2::1"), word("2001:db8:1:2:ffff::9"));
        assert_ne!(word("2001:db8:1:2::1"), word("2001:db8:1:3::1"));
    }

    #[test]
    fn a_burst_is_taken_and_then_the_rate() {
        let rates = Rates::new([7; 16]);
        let limit = limit(&rates, 10, 3);
        let take = |now| rates.take(&limit, client(1), now);
        assert_eq!([0, 0, 0].map(take), [Ok(()); 3]);
        assert_eq!(take(0), Err(TooMany { wait_micros: 100_000 }));
        assert_eq!(take(99_999), Err(TooMany { wait_micros: 1 }));
        assert_eq!(take(100_000), Ok(()));
        assert_eq!(take(100_000), Err(TooMany { wait_micros: 100_000 }));
        assert_eq!(rates.take(&limit, client(2), 100_000), Ok(()), "another client");
        // After a long pause the burst is whole again, and no more than that.
        assert_eq!([9_000_000; 3].map(take), [Ok(()); 3]);
        assert!(take(9_000_000).is_err());
    }

    #[test]
    fn routes_do_not_share_their_clients() {
        let rates = Rates::new([7; 16]);
        let once = RateLimit { requests_per_second: 1, burst: 1 };
        let [a, b] =
            ["a", "b"].map(|name| rates.limit(&RouteName::new(name).expect("a name"), once));
        assert!(rates.take(&a, client(1), 0).is_ok() && rates.take(&b, client(1), 0).is_ok());
        assert!(rates.take(&a, client(1), 0).is_err() && rates.take(&b, client(1), 0).is_err());
    }

    /// Workers look at the clock at different moments, so one may think it earlier than another
    /// that has just written; that made a client's debt look impossible, and forgave it.
    #[test]
    fn a_worker_whose_clock_is_behind_forgives_nobody() {
        let rates = Rates::new([7; 16]);
        for burst in [1, 3] {
            let limit = limit(&rates, 1, burst);
            let now = 5_000_000 + 60_000_000 * u64::from(burst);
            (0..burst).for_each(|_| rates.take(&limit, client(burst), now).expect("a burst"));
            for behind in [0, 1, 900_000] {
                let told = rates.take(&limit, client(burst), now - behind);
                assert_eq!(told, Err(TooMany { wait_micros: 1_000_000 + behind }));
            }
        }
    }

    /// A year later the time has come round, and what stands in the table means nothing.
    #[test]
    fn nobody_waits_for_a_time_that_has_come_round() {
        let rates = Rates::new([7; 16]);
        let limit = limit(&rates, 1, 5);
        let year = (1 << TIME_BITS) / TICKS_PER_MICRO;
        for now in [year - 1, year / 2, year, 3 * year - 1, 5 * year / 2] {
            assert_eq!([now; 5].map(|now| rates.take(&limit, client(1), now)), [Ok(()); 5]);
            assert!(rates.take(&limit, client(1), now).is_err());
            assert!(rates.take(&limit, client(1), now + 1_000_000).is_ok());
        }
    }

    /// With more clients than slots, some are forgotten; nobody is refused for another's requests.
    #[test]
    fn a_flood_makes_the_limit_looser_and_not_tighter() {
        let rates = Rates::new([7; 16]);
        let limit = limit(&rates, 1, 1);
        let refused = (0..400_000).filter(|&n| rates.take(&limit, client(n), 0).is_err()).count();
        // Each of those in the full table is somebody's twin with a chance of one in 2^30, so that
        // about 45 are.
        assert!(refused < 100, "{refused} were refused at their first request");
    }

    /// What stands in the table for another route is not taken for past, however short the limit
    /// of the present one is.
    #[test]
    fn a_short_limit_does_not_forget_a_long_one() {
        let rates = Rates::new([7; 16]);
        let of = |name: &str, requests_per_second, burst| {
            let route = RouteName::new(name).expect("a name");
            rates.limit(&route, RateLimit { requests_per_second, burst })
        };
        let (long, short) = (of("long", 1, 100), of("short", 100_000, 1));
        for n in 0..1000 {
            (0..100).for_each(|_| rates.take(&long, client(n), 0).expect("a burst"));
        }
        (0..20_000).for_each(|n| rates.take(&short, client(n), 0).expect("the first"));
        let still = (0..1000).filter(|&n| rates.take(&long, client(n), 0).is_err()).count();
        assert_eq!(still, 1000, "have used up their burst");
    }

    /// Two threads that hammer one client take as many requests as one would, but for a slot that
    /// both may have given it at the beginning.
    #[test]
    fn workers_share_what_they_count() {
        let rates = Rates::new([7; 16]);
        let limit = limit(&rates, 1, 1000);
        rates.take(&limit, client(1), 0).expect("the first");
        let taken = AtomicUsize::new(1);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let took = rates.take(&limit, client(1), 0).is_ok();
                        taken.fetch_add(usize::from(took), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(taken.into_inner(), 1000);
    }

    /// The naive version: a bucket that is filled as time goes by, in exact fractions.
    struct Bucket {
        /// Tokens, times the interval.
        filled: u64,
        at: u64,
    }

    impl Bucket {
        fn take(&mut self, limit: &Limit, now: u64) -> bool {
            let full = limit.tolerance + limit.interval;
            self.filled = (self.filled + (now - self.at)).min(full);
            self.at = now;
            let takes = self.filled >= limit.interval;
            self.filled -= if takes { limit.interval } else { 0 };
            takes
        }
    }

    proptest! {
        #[test]
        fn it_is_a_token_bucket(
            rate in 1..100_000_u32,
            burst in 1..50_u32,
            pauses in prop::collection::vec((0..3_u32, any::<u32>()), 1..200),
            begin in 0..10_000_000_000_u64,
        ) {
            let rates = Rates::new([9; 16]);
            let limit = limit(&rates, rate, burst);
            let mut now = begin;
            let mut bucket = Bucket {
                filled: limit.tolerance + limit.interval,
                at: now * TICKS_PER_MICRO,
            };
            let interval = limit.interval / TICKS_PER_MICRO;
            for (kind, pause) in pauses {
                // Most requests come at about the rate, or at once.
                now += match kind {
                    0 => 0,
                    1 => u64::from(pause) % (2 * interval + 2),
                    _ => u64::from(pause) % (interval * u64::from(burst) + 2),
                };
                let taken = rates.take(&limit, client(1), now);
                prop_assert_eq!(taken.is_ok(), bucket.take(&limit, now * TICKS_PER_MICRO));
                if let Err(TooMany { wait_micros }) = taken {
                    // It would be taken then, and not a microsecond earlier.
                    let mut later = Bucket { ..bucket };
                    let mut earlier = Bucket { ..bucket };
                    prop_assert_eq!(later.take(&limit, (now + wait_micros) * TICKS_PER_MICRO), true);
                    let before = (now + wait_micros - 1) * TICKS_PER_MICRO;
                    prop_assert_eq!(earlier.take(&limit, before), false);
                }
            }
        }
    }
}
