//! Small duties of a gateway, each seen from both sides.

use crate::support::backend::Backend;
use crate::support::http::{Client, get};
use crate::support::ringway::{Serve, shards};
use crate::support::wait::until;

fn over(backend: &Backend, pool: &str) -> String {
    let shards = shards(&[backend.address]);
    format!(
        "pools:\n  - name: p\n    health: {{ active: off }}\n{pool}{shards}\
         routes: [{{ name: all, pool: p }}]\n"
    )
}

/// RFC 9110, section 7.6.2: the last hop of an OPTIONS request answers it.
#[test]
fn options_go_as_far_as_they_may() {
    let backend = Backend::answering("shard");
    let serve = Serve::start(&over(&backend, ""));
    let mut client = Client::connect(serve.data);
    let answer = client.ask("OPTIONS", "/k", "Max-Forwards: 0\r\n", b"").expect("an answer");
    assert_eq!((answer.status, backend.requests().len()), (204, 0));
    assert!(answer.field("allow").is_some_and(|methods| methods.contains("PUT")));
    client.ask("OPTIONS", "/k", "Max-Forwards: 7\r\n", b"").expect("an answer");
    client.ask("GET", "/k", "Max-Forwards: 0\r\n", b"").expect("an answer");
    let heard = backend.requests();
    let hops: Vec<_> = heard.iter().map(|request| request.field("max-forwards")).collect();
    assert_eq!(hops, [Some("6"), Some("0")]);
}

/// What became of a write the shard knows best. Other words of its own stay behind.
#[test]
fn an_outcome_told_by_a_shard_reaches_the_client() {
    let backend = Backend::start(|connection| {
        let outcomes = ["unknown", "not-applied", "applied\u{b7}twice"];
        for outcome in outcomes {
            connection.request();
            connection.say(format!(
                "HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 0\r\nRingway-Store: x\r\n\
                 Ringway-Outcome: {outcome}\r\n\r\n"
            ));
        }
    });
    let serve = Serve::start(&over(&backend, ""));
    let mut client = Client::connect(serve.data);
    for told in [Some("unknown"), Some("not-applied"), None] {
        let answer = client.ask("PUT", "/k", "", b"x").expect("an answer");
        assert_eq!((answer.status, answer.field("ringway-outcome")), (507, told));
        assert_eq!(answer.field("ringway-store"), None);
    }
}

/// A shard that hangs longer than a whole request may take never reached its own time-out, and so
/// was never blamed: every request to it waited the whole time, for ever.
#[test]
fn a_shard_that_outlasts_the_whole_request_is_seen_to_hang() {
    let backend = Backend::start(|connection| {
        connection.request();
        connection.until_closed();
    });
    let pool = "    timeouts: { request: 2s, response_head: 60s }\n";
    let passive = "health: { active: off, passive: { consecutive_5xx: 2, keys_min: 2 } }";
    let serve = Serve::start(&over(&backend, pool).replace("health: { active: off }", passive));
    for key in ["/a", "/b", "/c"] {
        assert_eq!(get(serve.data, key).status, 504);
    }
    until("the shard is ejected", || {
        let status = serve.pool_status("p");
        status["shards"][0]["reads"].as_str()?.starts_with("ejected").then_some(())
    });
}
