//! A large value streams through a store in bounded memory, in and out.
//!
//! 256 MiB; `RINGWAY_LARGE_MIB=1024` for more.

use crate::store_child::{StoreProcess, setting};

/// What a large PUT and GET may take beyond what the store needs anyway: two buffers in, two
/// pieces out, hyper's and the allocator's slack.
const ALLOWED_KIB: u64 = 16 * 1024;

fn peak_kib(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    number.and_then(|number| number.trim().parse().ok()).expect("a size in kB")
}

#[test]
fn a_large_value_streams_in_and_out_in_constant_memory() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let store = StoreProcess::start(data.path());
    // Everything that a store sets up once.
    assert_eq!(store.ask("PUT", "/small", &vec![0; 1_000_000]).status, 201);
    assert_eq!(store.ask("GET", "/small", b"").body.len(), 1_000_000);
    let before = peak_kib(store.id());

    let length = setting("RINGWAY_LARGE_MIB", 256) * 1024 * 1024;
    let mut client = store.client();
    client.send_head("PUT", "/large", length).expect("the store reads");
    let mut sent = blake3::Hasher::new();
    let mut piece = vec![0; 1024 * 1024];
    for number in 0..length / piece.len() as u64 {
        piece[..8].copy_from_slice(&number.to_le_bytes());
        sent.update(&piece);
        client.send(&piece).expect("the store reads");
    }
    let put = client.reply().expect("an answer");
    assert_eq!(put.status, 201);
    let digest = sent.finalize();
    assert_eq!(put.field("etag"), Some(format!("\"{}\"", digest.to_hex()).as_str()));
    let after_put = peak_kib(store.id());

    client.send_head("GET", "/large", 0).expect("the store reads");
    let mut received = blake3::Hasher::new();
    let take = |bytes: &[u8]| {
        received.update(bytes);
    };
    let get = client.reply_to(take).expect("an answer");
    assert_eq!(get.status, 200);
    assert_eq!(received.finalize(), digest);
    let after_get = peak_kib(store.id());

    println!("{length} bytes; peak RSS in KiB: {before} before, {after_put}, {after_get} after");
    assert!(
        after_get <= before + ALLOWED_KIB,
        "peak RSS grew from {before} to {after_put} KiB by the PUT, to {after_get} by the GET"
    );
}
