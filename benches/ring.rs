//! The ring beside pingora-ketama, in one run: nanoseconds for a lookup, milliseconds and bytes
//! for a build, at 1000 shards of 256 virtual nodes. pingora-ketama has its fixed 160 points per
//! server, which is less to search and to sort.
//!
//! Both sides take turns in short rounds, so that a machine that slows down slows both. Where other
//! work shares the machine, the least times are the ones to read. The tokens and keys of a lookup do not depend on the one before:
//! what is measured is throughput, with the tables in the cache as far as they fit.
//!
//! Run: `cargo bench --bench ring`; with `-- --histories` instead: pools that keep data through a
//! thousand changes of their shards.

#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a report for people, with a few digits"
)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use pingora_ketama::{Bucket, Continuum};
use ringway::ids::{ShardId, Token, Weight, Zone};
use ringway::ring::slots::{SlotSets, plan};
use ringway::ring::{Member, Ring, RingSpec, ShardIx};
// By their names in the library, for what is shared with its tests.
use ringway::{ids, ring};

#[path = "ring.d/histories.rs"]
mod histories;
#[path = "../src/ring/slots/tests/history.rs"]
mod history;

const SHARDS: u16 = 1000;
const ZONES: u16 = 5;
const LOOKUPS: usize = 1 << 16;
const ROUNDS: usize = 101;
const BUILDS: usize = 15;
const KEY_BYTES: usize = 64;

/// Times of one thing, round by round.
struct Series {
    name: &'static str,
    rounds: Vec<Duration>,
}

impl Series {
    fn new(name: &'static str) -> Self {
        Self { name, rounds: Vec::new() }
    }

    /// Does the work once to bring what it reads into the cache, and once more by the clock.
    fn time<T>(&mut self, work: impl Fn() -> T) {
        black_box(work());
        let start = Instant::now();
        black_box(work());
        self.rounds.push(start.elapsed());
    }

    /// Least and middle time, divided by `count`, in nanoseconds.
    fn least_and_median(&self, count: usize) -> (f64, f64) {
        let mut sorted = self.rounds.clone();
        sorted.sort_unstable();
        let each = |round: Duration| round.as_nanos() as f64 / count as f64;
        (each(sorted[0]), each(sorted[sorted.len() / 2]))
    }
}

fn spec(replicas: u8) -> RingSpec {
    let members = (0..SHARDS)
        .map(|number| Member {
            id: ShardId::new(&format!("shard-{number}")).expect("a plain name"),
            zone: Zone::new(&format!("zone-{}", number % ZONES)).expect("a plain name"),
            weight: Weight::ONE,
        })
        .collect();
    RingSpec { hash_seed: "bench".to_owned(), vnodes: 256, replicas, members, ketama: None }
}

fn address(number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, high, low)), 8080)
}

/// Keys like those of a build cache: 64 bytes, all different.
fn keys() -> Vec<[u8; KEY_BYTES]> {
    let mut text = String::new();
    (0..LOOKUPS as u64)
        .map(|number| {
            text.clear();
            let scrambled = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            write!(text, "/cache/{scrambled:016x}{number:041x}").expect("strings take all");
            text.as_bytes().try_into().expect("the format is 64 bytes wide")
        })
        .collect()
}

// One function for each thing measured, so that none is compiled into the loop of another. What
// they find is summed up and looked at, so that none is compiled away.

#[inline(never)]
fn owners_of_tokens(ring: &Ring, tokens: &[Token]) -> u64 {
    tokens.iter().map(|&token| u64::from(ring.replicas(token)[0].0)).sum()
}

/// All three are read, as a write to three replicas reads them.
fn sum(set: &[ShardIx]) -> u64 {
    let [first, second, third] = set else { return 0 };
    [first, second, third].into_iter().map(|shard| u64::from(shard.0)).sum()
}

#[inline(never)]
fn sets_of_tokens(ring: &Ring, tokens: &[Token]) -> u64 {
    tokens.iter().map(|&token| sum(ring.replicas(token))).sum()
}

#[inline(never)]
fn slots_of_tokens(slots: &SlotSets, tokens: &[Token]) -> u64 {
    tokens.iter().map(|&token| sum(slots.replicas(token))).sum()
}

#[inline(never)]
fn sets_of_keys(ring: &Ring, keys: &[[u8; KEY_BYTES]]) -> u64 {
    keys.iter().map(|key| sum(ring.replicas(ring.token(key)))).sum()
}

#[inline(never)]
fn tokens_of_keys(ring: &Ring, keys: &[[u8; KEY_BYTES]]) -> u64 {
    keys.iter().fold(0, |all, key| all ^ ring.token(key).0)
}

#[inline(never)]
fn ketama_nodes<const BYTES: usize>(ketama: &Continuum, keys: &[[u8; BYTES]]) -> u64 {
    keys.iter().map(|key| ketama.node_idx(key) as u64).sum()
}

fn main() {
    if std::env::args().any(|argument| argument == "--histories") {
        return histories::run();
    }
    let owner = Ring::build(&spec(1)).expect("a good spec");
    let sets = Ring::build(&spec(3)).expect("a good spec");
    let buckets: Vec<Bucket> = (0..SHARDS).map(|number| Bucket::new(address(number), 1)).collect();
    let ketama = Continuum::new(&buckets);

    let keys = keys();
    let tokens: Vec<Token> = keys.iter().map(|key| sets.token(key)).collect();
    // pingora hashes inside its lookup; 8-byte keys keep that as cheap as CRC32 can be.
    let short: Vec<[u8; 8]> = tokens.iter().map(|token| token.0.to_ne_bytes()).collect();

    let table = plan(None, &spec(3)).expect("a good spec");
    let slots = table.sets_for(&sets);

    let mut set_of_slot = Series::new("replica set, balanced");
    let mut owner_of_token = Series::new("owner of a token");
    let mut set_of_token = Series::new("replica set of a token");
    let mut set_of_key = Series::new("64-byte key to replica set");
    let mut token_of_key = Series::new("  of which BLAKE3");
    let mut ketama_short = Series::new("pingora-ketama, 8-byte key");
    let mut ketama_key = Series::new("pingora-ketama, 64-byte key");
    for _ in 0..ROUNDS {
        owner_of_token.time(|| owners_of_tokens(&owner, &tokens));
        ketama_short.time(|| ketama_nodes(&ketama, &short));
        set_of_token.time(|| sets_of_tokens(&sets, &tokens));
        set_of_slot.time(|| slots_of_tokens(&slots, &tokens));
        set_of_key.time(|| sets_of_keys(&sets, &keys));
        token_of_key.time(|| tokens_of_keys(&sets, &keys));
        ketama_key.time(|| ketama_nodes(&ketama, &keys));
    }

    let mut build = Series::new("build, 3 replicas, 5 zones");
    let mut build_one_zone = Series::new("build, 3 replicas, 1 zone");
    let mut ketama_build = Series::new("pingora-ketama build");
    let spread = spec(3);
    let mut together = spec(3);
    together.members.iter_mut().for_each(|member| member.zone = Zone::default());
    let mut planned = Series::new("plan, balanced");
    let mut joined = Series::new("plan, one shard more");
    let mut left = Series::new("plan, one shard less");
    let (mut more, mut less) = (spec(3), spec(3));
    more.members.push(Member {
        id: ShardId::new("shard-new").expect("a plain name"),
        ..more.members[0].clone()
    });
    less.members.remove(usize::from(SHARDS) / 2);
    for _ in 0..BUILDS {
        planned.time(|| plan(None, &spread));
        joined.time(|| plan(Some(&table), &more));
        left.time(|| plan(Some(&table), &less));
        build.time(|| Ring::build(&spread));
        build_one_zone.time(|| Ring::build(&together));
        ketama_build.time(|| Continuum::new(&buckets));
    }

    println!(
        "{SHARDS} shards, {ZONES} zones, 256 virtual nodes each; least and median of rounds\n"
    );
    let line = |series: &Series, count: usize, unit: f64, asked: &str| {
        let (least, median) = series.least_and_median(count);
        println!("{:<30} {:>8.1} {:>8.1}   {asked}", series.name, least / unit, median / unit);
    };
    println!("{:<30} {:>8} {:>8}   asked", "ns", "least", "median");
    line(&owner_of_token, LOOKUPS, 1.0, "");
    line(&ketama_short, LOOKUPS, 1.0, "");
    line(&set_of_token, LOOKUPS, 1.0, "14, aim 10");
    line(&set_of_slot, LOOKUPS, 1.0, "2");
    line(&set_of_key, LOOKUPS, 1.0, "90");
    line(&token_of_key, LOOKUPS, 1.0, "");
    line(&ketama_key, LOOKUPS, 1.0, "");
    println!("{:<30} {:>8} {:>8}", "ms", "least", "median");
    line(&build, 1, 1e6, "15");
    line(&build_one_zone, 1, 1e6, "15");
    line(&ketama_build, 1, 1e6, "");
    line(&planned, 1, 1e6, "150");
    line(&joined, 1, 1e6, "40");
    line(&left, 1, 1e6, "40");
    println!("{:<30} {:>8}", "MiB", "held");
    println!("{:<30} {:>8.2}            8", "tables", sets.table_bytes() as f64 / 1_048_576.0);
    let ratio =
        |ours: &Series, theirs: &Series| theirs.least_and_median(1).0 / ours.least_and_median(1).0;
    println!(
        "\npingora-ketama over ours (least times): {:.1} for the owner, its hash of 8 bytes included; \
         {:.2} for a 64-byte key, its CRC32 against BLAKE3 and its one owner against a set of three",
        ratio(&owner_of_token, &ketama_short),
        ratio(&set_of_key, &ketama_key),
    );
}
