//! Does a large body reach every store of a replicated pool whole, however it comes in?
//!
//! Stores keep such a body as one file, so what each has is seen in its folder, without asking it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;

use crate::http_client::Client;
use crate::support::http::get;
use crate::support::ringway::{Serve, Store, shards};
use crate::support::wait::until_true;

struct Kept {
    stores: Vec<Store>,
    serve: Serve,
}

fn start() -> Kept {
    let stores: Vec<Store> = (0..3).map(|_| Store::start()).collect();
    let addresses: Vec<SocketAddr> = stores.iter().map(|store| store.address).collect();
    let serve = Serve::start(&format!(
        "pools:\n  - name: objects\n    kind: replicated\n    replicas: 3\n{}routes:\n  - {{ name: \
         all, pool: objects }}\n",
        shards(&addresses)
    ));
    serve.until_all_stores_keep("/first");
    Kept { stores, serve }
}

/// Bytes that no shift or exchange of pieces leaves as they are.
fn body(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_string()
}

/// The digests of all files of bodies below a store's folder, and how many there are of each.
fn files(store: &Store) -> BTreeMap<String, usize> {
    fn walk(folder: &Path, found: &mut BTreeMap<String, usize>) {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            match entry.file_type().expect("a type").is_dir() {
                true => walk(&entry.path(), found),
                false => {
                    let bytes = std::fs::read(entry.path()).expect("a file");
                    *found.entry(digest(&bytes)).or_default() += 1;
                }
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&store.folder().join("bodies"), &mut found);
    found
}

/// Sends a body in pieces of very different lengths, the first of them together with the head.
fn upload(data: SocketAddr, path: &str, body: &[u8], seed: u64, is_chunked: bool) -> u16 {
    let mut client = Client::connect(data).expect("it listens");
    let framing = match is_chunked {
        true => "Transfer-Encoding: chunked".to_owned(),
        false => format!("Content-Length: {}", body.len()),
    };
    let level = "Ringway-Consistency: all";
    let mut out = format!("PUT {path} HTTP/1.1\r\nHost: h\r\n{level}\r\n{framing}\r\n\r\n");
    let mut out = std::mem::take(&mut out).into_bytes();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut rest = body;
    while !rest.is_empty() {
        let most = *random.choice(&[1_usize, 100, 5_000, 70_000, 600_000]).expect("some");
        let (piece, behind) = rest.split_at(random.usize(1..=most).min(rest.len()));
        rest = behind;
        if is_chunked {
            out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        }
        out.extend_from_slice(piece);
        out.extend_from_slice(if is_chunked { b"\r\n" } else { b"" });
        // Some pieces are told apart by nobody, others come alone.
        if random.bool() {
            client.send(&out).expect("it reads");
            out.clear();
            if random.u8(..8) == 0 {
                thread::yield_now();
            }
        }
    }
    out.extend_from_slice(if is_chunked { b"0\r\n\r\n" } else { b"" });
    client.send(&out).expect("it reads");
    client.reply().expect("an answer").status
}

#[test]
fn every_store_gets_every_byte_of_many_uploads_at_once() {
    let kept = start();
    let data = kept.serve.data;
    // Around what is copied, what goes by pipes, what a narrow pipe and a window hold; and more at
    // once than there are pipes for.
    let sizes = [65_537, 131_071, 131_072, 262_143, 262_145, 1_048_576, 1_300_003, 5_000_001];
    let bodies: Vec<_> = (0u64..16)
        .map(|seed| (seed, body(seed, sizes[usize::try_from(seed / 2).expect("small")])))
        .collect();
    thread::scope(|scope| {
        for (seed, body) in &bodies {
            scope.spawn(move || {
                let path = format!("/upload/{seed}");
                let status = upload(data, &path, body, *seed, seed % 2 == 1 && seed % 4 == 1);
                assert_eq!(status, 204, "{path}");
            });
        }
    });
    let all: BTreeMap<_, _> = bodies.iter().map(|(_, body)| (digest(body), 1)).collect();
    for store in &kept.stores {
        assert_eq!(files(store), all, "{:?}", store.folder());
    }
    for (seed, body) in &bodies {
        assert!(get(data, &format!("/upload/{seed}")).body == *body, "{seed}");
    }
}

#[test]
fn the_others_get_all_of_a_body_whose_store_dies_in_its_middle() {
    let mut kept = start();
    let whole = body(1, 12 * 1024 * 1024);
    let (first, second) = whole.split_at(5_000_000);
    let mut client = Client::connect(kept.serve.data).expect("it listens");
    client.send_head("PUT", "/large", whole.len() as u64).expect("it reads");
    client.send(first).expect("it reads");
    kept.stores[1].process.kill_9();
    client.send(second).expect("it reads");
    assert_eq!(client.reply().expect("an answer").status, 204);
    for place in [0, 2] {
        let files = files(&kept.stores[place]);
        assert_eq!(files, BTreeMap::from([(digest(&whole), 1)]), "s{}", place + 1);
    }
    let got = get(kept.serve.data, "/large");
    assert!(got.body == whole, "{}", got.status);
}

#[test]
fn a_body_that_breaks_off_is_nowhere() {
    let kept = start();
    let whole = body(2, 4_000_000);
    let mut client = Client::connect(kept.serve.data).expect("it listens");
    client.send_head("PUT", "/large", whole.len() as u64).expect("it reads");
    client.send(&whole[..3_000_000]).expect("it reads");
    drop(client);
    // Whoever comes next is not served a byte of it: neither by the stores nor out of a pipe.
    let next = body(3, 3_000_000);
    assert_eq!(upload(kept.serve.data, "/next", &next, 3, false), 204);
    assert_eq!(get(kept.serve.data, "/large").status, 404);
    // A store hears a moment later than the client leaves that the rest will not come.
    for store in &kept.stores {
        let wanted = BTreeMap::from([(digest(&next), 1)]);
        until_true("only what is whole is kept", || files(store) == wanted);
    }
    assert!(get(kept.serve.data, "/next").body == next);
}
