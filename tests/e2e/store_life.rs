//! The life of a `ringway store` process.

use std::process::Stdio;

use crate::store_child::{StoreProcess, command};

#[test]
fn a_store_ends_cleanly_on_sigterm_and_has_everything_when_it_comes_back() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let store = StoreProcess::start(data.path());
    assert_eq!(store.ask("PUT", "/a", b"kept").status, 201);
    let id = store.ask("GET", "/a", b"").field("ringway-store").map(str::to_owned);
    assert!(store.terminate().success());
    let store = StoreProcess::start(data.path());
    let reply = store.ask("GET", "/a", b"");
    assert_eq!((reply.status, &*reply.body), (200, &b"kept"[..]));
    assert_eq!(reply.field("ringway-store").map(str::to_owned), id);
}

#[test]
fn a_second_process_on_the_folder_is_refused_and_told_which_has_it() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let store = StoreProcess::start(data.path());
    let second = command(data.path()).stdin(Stdio::null()).output().expect("the binary was built");
    assert!(!second.status.success());
    assert_eq!(second.stdout, b"");
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains(&format!("in use by process {}", store.id())), "{said}");
    assert_eq!(store.ask("PUT", "/a", b"still at work").status, 201);
}
