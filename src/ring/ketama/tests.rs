//! The ring against a running nginx, by what it answered; against pingora-ketama, for random
//! servers; and against a naive walk, for what is next.

use std::collections::BTreeMap;

use pingora_ketama::{Bucket, Continuum};
use proptest::prelude::{ProptestConfig, any, prop};
use proptest::{prop_assert_eq, proptest};

use crate::ids::{KetamaName, ShardId, Token, Weight, Zone};
use crate::ring::{Member, Ring, RingError, RingSpec};

const VECTORS: &str = include_str!("../../../tests/vectors/ketama.txt");

/// The keys of `ketama.py`.
fn key(number: u64) -> String {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    match number % 4 {
        0 => format!("/k/{number}"),
        1 => format!("/cache/{mixed:016x}"),
        2 => format!("/x{}/{number}", "x".repeat(usize::try_from(number % 97).expect("small"))),
        _ => format!("/a/{}/b/{number}.tar.gz", mixed % 1000),
    }
}

/// Servers in nginx's order, under ids that sort alike.
fn spec(servers: &[(&str, u64)]) -> RingSpec {
    let id = |number: usize| ShardId::new(&format!("s{number:03}")).expect("a plain name");
    let members = servers.iter().enumerate().map(|(number, (_, weight))| Member {
        id: id(number),
        zone: Zone::default(),
        weight: Weight::try_from(*weight).expect("a weight in range"),
    });
    let names = servers.iter().enumerate().map(|(number, (name, _))| {
        (id(number), KetamaName::new(name).expect("the name of a server"))
    });
    RingSpec {
        hash_seed: "without meaning".to_owned(),
        vnodes: 1,
        replicas: 1,
        members: members.collect(),
        ketama: Some(names.collect()),
    }
}

#[test]
fn keys_are_where_a_running_nginx_sent_them() {
    let mut sets = 0;
    for line in VECTORS.lines().filter(|line| !line.starts_with('#')) {
        let [name, servers, answers] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("a line has three parts")
        };
        let mut down = Vec::new();
        let servers: Vec<(&str, u64)> = (servers.split(',').enumerate())
            .map(|(number, server)| {
                let (server, weight) = server.rsplit_once('=').expect("a weight");
                if weight.ends_with('!') {
                    down.push(number);
                }
                (server, weight.trim_end_matches('!').parse().expect("a number"))
            })
            .collect();
        let ring = Ring::build(&spec(&servers)).expect("a good spec");
        assert_eq!(answers.len(), 10_000, "{name}");
        for (number, answer) in (0..).zip(answers.chars()) {
            let key = key(number);
            let token = ring.token(key.as_bytes());
            let mut order = ring.order(token).map(|shard| usize::from(shard.0));
            let found = order.find(|shard| !down.contains(shard)).expect("one is up");
            let asked = answer.to_digit(36).expect("a number of a server");
            assert_eq!(found, asked as usize, "{name}: {key}");
            if down.is_empty() {
                assert_eq!(usize::from(ring.replicas(token)[0].0), found);
            }
        }
        sets += 1;
    }
    assert_eq!(sets, 6);
}

/// nginx's own words: all points, sorted by value alone and stably, the first of equals kept.
fn naive_points(servers: &[(&str, u64)]) -> Vec<(u32, usize)> {
    let mut points = Vec::new();
    for (number, (name, weight)) in servers.iter().enumerate() {
        let name = KetamaName::new(name).expect("the name of a server");
        let (host, port) = name.host_and_port();
        let mut last = 0_u32;
        for _ in 0..160 * weight {
            let bytes = [host.as_bytes(), b"\0", port.as_bytes(), &last.to_le_bytes()].concat();
            last = crc32(&bytes);
            points.push((last, number));
        }
    }
    points.sort_by_key(|point| point.0);
    points.dedup_by_key(|point| point.0);
    points
}

/// Bit by bit, as the standard has it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn owners_and_those_next_are_as_nginx_walks(
        drawn in prop::collection::vec((any::<u8>(), 0_u64..4), 1..7),
        numbers in prop::collection::vec(any::<u64>(), 20),
    ) {
        let names: BTreeMap<String, u64> = drawn
            .iter()
            .map(|(host, weight)| (format!("10.1.{host}.1:80{}", host % 10), *weight))
            .collect();
        let servers: Vec<(&str, u64)> =
            names.iter().map(|(name, weight)| (name.as_str(), *weight)).collect();
        let spec = spec(&servers);
        let Ok(ring) = Ring::build(&spec) else {
            prop_assert_eq!(spec.check(), Err(RingError::Empty));
            return Ok(());
        };
        let points = naive_points(&servers);
        prop_assert_eq!(ring.vnodes(), points.len());
        let owning: Vec<_> = servers.iter().filter(|(_, weight)| *weight > 0).collect();
        let buckets: Vec<Bucket> = owning
            .iter()
            .map(|(name, weight)| {
                let address = name.parse().expect("an address");
                Bucket::new(address, u32::try_from(*weight).expect("small"))
            })
            .collect();
        let pingora = Continuum::new(&buckets);
        let edges = points.iter().flat_map(|(point, _)| [point.wrapping_sub(1), *point]);
        let keys: Vec<String> = numbers.iter().map(|number| key(*number)).collect();
        let hashes = keys.iter().map(|key| crc32(key.as_bytes())).chain(edges.take(200));
        for hash in hashes {
            let from = points.partition_point(|(point, _)| *point < hash);
            let mut order: Vec<usize> = Vec::new();
            for (_, server) in points[from..].iter().chain(&points[..from]) {
                if !order.contains(server) {
                    order.push(*server);
                }
            }
            let token = Token(u64::from(hash) << 32);
            let found: Vec<usize> =
                ring.order(token).map(|shard| usize::from(shard.0)).collect();
            prop_assert_eq!(found, order);
        }
        for key in &keys {
            let found = ring.replicas(ring.token(key.as_bytes()))[0];
            let name = &spec.ketama.as_ref().expect("names")[&ring.member(found).id];
            let theirs = pingora.node(key.as_bytes()).expect("an owner");
            prop_assert_eq!(name.as_str(), theirs.to_string());
        }
    }
}

/// What a ring is known by follows names and weights, and nothing that nginx knows nothing of.
#[test]
fn only_what_nginx_knows_decides() {
    let digest = |spec: &RingSpec| Ring::build(spec).expect("a good spec").digest();
    let one = spec(&[("10.0.0.1:80", 1), ("10.0.0.2:80", 2), ("10.0.0.3:80", 0)]);
    let mut same = RingSpec { hash_seed: "another".to_owned(), vnodes: 7, ..one.clone() };
    same.members.remove(2);
    assert_eq!(one.deciding(), same.deciding());
    assert_eq!(digest(&one), digest(&same));
    let moved = spec(&[("10.0.0.1:81", 1), ("10.0.0.2:80", 2)]);
    assert_ne!(one.deciding(), moved.deciding());
    assert_ne!(digest(&one), digest(&moved));
    let by_tokens = RingSpec { ketama: None, ..same };
    assert_ne!(digest(&by_tokens), digest(&one));
}

#[test]
fn two_servers_of_one_name_are_refused() {
    let spec = spec(&[("10.0.0.1:80", 1), ("10.0.0.2:80", 1), ("10.0.0.1:80", 1)]);
    let error = Ring::build(&spec).expect_err("a name stands twice");
    assert!(matches!(error, RingError::SameName { .. }), "{error}");
    let mut nameless = RingSpec { ketama: Some(BTreeMap::new()), ..spec };
    nameless.members.truncate(1);
    let error = Ring::build(&nameless).expect_err("it has no name");
    assert!(matches!(error, RingError::Nameless(_)), "{error}");
}

/// A shared point goes to the id that sorts first, as nginx gives it to the server that stands
/// first; the vectors are taken where that is the same.
#[test]
fn a_shared_point_goes_to_the_first() {
    let names: Vec<String> = (0..64).map(|number| format!("10.2.{number}.1:8080")).collect();
    let servers: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 20)).collect();
    let ring = Ring::build(&spec(&servers)).expect("a good spec");
    let points = naive_points(&servers);
    assert_eq!(ring.vnodes(), points.len());
    let shared = ring.shared_points();
    assert!(!shared.is_empty(), "204 800 points share some");
    assert!(shared.iter().all(|(keeper, other)| keeper < other));
    for (point, owner) in points {
        let found = ring.replicas(Token(u64::from(point) << 32))[0];
        assert_eq!(usize::from(found.0), owner);
    }
}
