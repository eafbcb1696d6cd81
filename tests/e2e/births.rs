//! A pool that is made anew, a node that has lost what it knew, and two nodes before the same stores.

use std::net::SocketAddr;

use crate::support::http::{get, put};
use crate::support::ringway::{Serve, Store, ringway_says, shards};
use crate::support::wait::until_true;

fn pools(stores: &[Store], more: &str) -> String {
    let addresses: Vec<SocketAddr> = stores.iter().map(|store| store.address).collect();
    let shards = shards(&addresses);
    format!(
        "pools:\n  - name: objects\n    kind: replicated\n    replicas: 3\n{more}{shards}routes:\n  \
         - {{ name: all, pool: objects }}\n"
    )
}

fn until_written(serve: &Serve, path: &str, body: &[u8]) {
    until_true("the pool takes writes", || put(serve.data, path, body).status == 204);
}

fn until_read(serve: &Serve, path: &str, body: &str) {
    until_true("the object is there", || {
        let got = get(serve.data, path);
        (got.status, got.text()) == (200, body.to_owned())
    });
}

#[test]
fn what_was_dropped_is_gone_and_what_was_forgotten_is_found() {
    let stores: Vec<Store> = (0..3).map(|_| Store::start()).collect();
    let serve = Serve::start(&pools(&stores, ""));
    until_written(&serve, "/a", b"first");

    // Dropped by name, and made again by the file, with other keys.
    let folder = serve.data_dir().display().to_string();
    let dropped = ringway_says(&["ring", "drop-pool", "objects", "--now", "--data-dir", &folder]);
    assert!(dropped.success, "{}", dropped.stderr);
    let anew = pools(&stores, "    hash_seed: another\n");
    serve.hang_up(&anew);
    until_written(&serve, "/b", b"second");
    assert_eq!(get(serve.data, "/a").status, 404, "it was dropped");
    assert_eq!(put(serve.data, "/a", b"mine").status, 204);
    until_read(&serve, "/a", "mine");

    // Its state is lost; its stores have been told of a later epoch than the first.
    let folder = serve.into_folder();
    std::fs::remove_file(folder.path().join("node/state.json")).expect("it was there");
    let serve = Serve::start_in(folder, &anew);
    until_read(&serve, "/a", "mine");
    until_read(&serve, "/b", "second");
    until_written(&serve, "/a", b"again");
    until_read(&serve, "/a", "again");

    // Another node is not taken for it, and says who it is before.
    let other = Serve::start(&anew);
    until_true("it says that the stores are another's", || {
        other.process.stderr().contains("two nodes without a cluster do not share a store")
    });
    assert_eq!(put(other.data, "/a", b"theirs").status, 503);
    until_read(&serve, "/a", "again");
}
