//! What a node's operators see while others hold on to its telemetry.

use crate::support::http::{Client, get};
use crate::support::net::lasting_address;
use crate::support::ringway::{Serve, shards};

#[test]
fn whoever_does_not_read_keeps_nobody_else_from_an_answer() {
    let serve = Serve::start(&format!(
        "pools:\n  - name: p\n{}routes:\n  - {{ name: all, pool: p }}\n",
        shards(&[lasting_address()])
    ));
    // More answers than any buffers hold, to more connections than are served at once.
    let ask = "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n".repeat(1000);
    let mut idlers: Vec<Client> = (0..100).map(|_| Client::connect(serve.telemetry)).collect();
    for idler in &mut idlers {
        // One that was closed meanwhile is one of the oldest.
        drop(idler.send(&ask));
    }
    assert_eq!(get(serve.telemetry, "/livez").status, 200);
}
