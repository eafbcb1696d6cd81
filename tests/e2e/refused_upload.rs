//! A client that sends its whole body before it reads: is it told that the body is refused?

use std::time::Duration;

use crate::support::http::{Client, HttpError};
use crate::support::net::lasting_address;
use crate::support::ringway::{Serve, shards};

fn serve(linger: Duration) -> Serve {
    Serve::start(&format!(
        "client: {{ limits: {{ body: 1KiB }}, timeouts: {{ linger: {}ms }} }}\npools:\n  - name: \
         p\n{}routes:\n  - {{ name: all, pool: p }}\n",
        linger.as_millis(),
        shards(&[lasting_address()])
    ))
}

/// More than the buffers of both sides take.
const BYTES: usize = 24 << 20;

#[test]
fn who_sends_all_before_it_reads_is_told_why_nobody_wants_it() {
    let serve = serve(Duration::from_secs(10));
    let mut client = Client::connect(serve.data);
    client
        .send(format!("PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: {BYTES}\r\n\r\n"))
        .expect("sent");
    client.send(vec![b'x'; BYTES]).expect("taken, though not wanted");
    assert_eq!(client.hear(false).expect("an answer").status, 413);
}

#[test]
fn who_never_ends_is_not_listened_to_for_ever() {
    let serve = serve(Duration::from_millis(200));
    let mut client = Client::connect(serve.data);
    client.send("PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999\r\n\r\n").expect("sent");
    let piece = vec![b'x'; 1 << 16];
    let end: Result<(), HttpError> = (0..10_000_000).try_for_each(|_| client.send(&piece));
    assert!(end.is_err(), "the connection was closed");
}
