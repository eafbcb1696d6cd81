//! A store as a shard of a pool that keeps data: who may speak to it, and what it does on a disk
//! whose fsync fails.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use rustls::version::{TLS12, TLS13};

use crate::http_client::{Client, Reply};
use crate::store_child::{StoreProcess, command};
use crate::support::disk::FailingSyncs;
use crate::support::tls::{Ca, shown, try_connect};
use crate::support::wait::until_true;

const CLUSTER: &str = "Ringway-Cluster: 0102030405060708090a0b0c0d0e0f10\r\n";

/// A node that asks one store about the pool `objects`.
pub struct Node {
    client: Client,
    fields: String,
}

impl Node {
    /// Of a store that is, or becomes, shard `s1`.
    pub fn bound(store: &StoreProcess) -> Self {
        let mut client = store.client();
        let fields = format!("{CLUSTER}Ringway-Shard: s1\r\n");
        let reply = client.ask_with("POST", "/_ringway/replica/objects/bind", &fields, b"");
        let reply = reply.expect("an answer");
        assert_eq!(reply.status, 200, "{reply:?}");
        let id = reply.field("ringway-store").expect("every answer has it");
        Self { client, fields: format!("{CLUSTER}Ringway-Epoch: 0.1\r\nRingway-Store: {id}\r\n") }
    }

    /// Another connection of the same.
    pub fn again(&self, store: &StoreProcess) -> Self {
        Self { client: store.client(), fields: self.fields.clone() }
    }

    pub fn ask(
        &mut self,
        method: &str,
        rest: &str,
        fields: &str,
        body: &[u8],
    ) -> std::io::Result<Reply> {
        let fields = format!("{}{fields}", self.fields);
        self.client.ask_with(method, &format!("/_ringway/replica/objects/{rest}"), &fields, body)
    }
}

fn on_any_address(data: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.args(["store", "--listen", "0.0.0.0:0", "--data"]).arg(data).args(more);
    command.stderr(Stdio::null());
    command
}

fn bind_by(client: &mut Client) -> Reply {
    let fields = format!("{CLUSTER}Ringway-Shard: s1\r\n");
    let target = "/_ringway/replica/objects/bind";
    client.ask_with("POST", target, &fields, b"").expect("an answer")
}

#[test]
fn beyond_loopback_nodes_are_served_only_where_they_are_known_or_the_operator_says_so() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let by_loopback = |store: &StoreProcess| {
        let address = SocketAddr::from(([127, 0, 0, 1], store.address.port()));
        Client::connect(address).expect("it listens on all addresses")
    };
    let store = StoreProcess::start_with(on_any_address(data.path(), &[]));
    let mut client = by_loopback(&store);
    let reply = bind_by(&mut client);
    assert_eq!((reply.status, reply.problem().as_str()), (403, "insecure"));
    assert_eq!(client.ask("PUT", "/plain", b"x").expect("an answer").status, 201);
    drop(store);
    let store = StoreProcess::start_with(on_any_address(data.path(), &["--insecure"]));
    assert_eq!(bind_by(&mut by_loopback(&store)).status, 200);
}

#[test]
fn with_an_authority_for_clients_nobody_else_gets_in() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ca = Ca::new("of the cluster");
    ca.write(&folder.path().join("ca.pem"));
    ca.sign(&["127.0.0.1"]).write(folder.path(), "store");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (cert, key, client_ca) = (file("store.pem"), file("store.key"), file("ca.pem"));
    let tls = ["--tls-cert", &cert, "--tls-key", &key, "--client-ca", &client_ca];
    let data = folder.path().join("data");
    let store = StoreProcess::start_with(on_any_address(&data, &tls));
    let address = SocketAddr::from(([127, 0, 0, 1], store.address.port()));
    let node = ca.sign(&["a node"]);
    let stranger = Ca::new("other").sign(&["a node"]);
    let fields = format!("{CLUSTER}Ringway-Shard: s1\r\n");
    let target = "/_ringway/replica/objects/bind";
    for version in [&TLS12, &TLS13] {
        for identity in [None, Some(&stranger)] {
            let config = ca.client(&[version], &[b"http/1.1"], identity);
            let asked = try_connect(address, "127.0.0.1", &config)
                .map(|mut client| client.ask("POST", target, &fields, b""));
            assert!(!matches!(asked, Ok(Ok(_))), "a stranger was answered");
        }
        let config = ca.client(&[version], &[b"http/1.1"], Some(&node));
        let mut client = try_connect(address, "127.0.0.1", &config).expect("a member");
        assert_eq!(client.ask("POST", target, &fields, b"").expect("an answer").status, 200);
        let large = vec![7; 300_000];
        let put = client.ask("PUT", "/plain", "", &large).expect("an answer");
        assert!(matches!(put.status, 201 | 204), "{put:?}");
        assert!(client.ask("GET", "/plain", "", b"").expect("an answer").body == large);
    }
    // Nobody is answered in the clear.
    let clear = Client::connect(address).expect("a connection").ask("GET", "/plain", b"");
    assert!(clear.is_err(), "{clear:?}");
    // Certificates are read again; connections from then on are shown the new one.
    let config = ca.client(&[&TLS13], &[b"http/1.1"], Some(&node));
    let before = shown(&try_connect(address, "127.0.0.1", &config).expect("a member"));
    ca.sign(&["127.0.0.1"]).write(folder.path(), "store");
    store.hang_up();
    until_true("the new certificate is shown", || {
        let config = ca.client(&[&TLS13], &[b"http/1.1"], Some(&node));
        shown(&try_connect(address, "127.0.0.1", &config).expect("a member")) != before
    });
}

#[test]
fn options_that_make_no_sense_together_are_refused() {
    let data = tempfile::tempdir().expect("a temporary folder");
    for more in [
        &["--tls-cert", "a.pem"][..],
        &["--client-ca", "a.pem"],
        &["--tls-cert", "a.pem", "--tls-key", "b.pem", "--client-ca", "c.pem", "--insecure"],
        &["--tls-cert", "no-such.pem", "--tls-key", "no-such.key"],
    ] {
        let mut command = command(data.path());
        let output = command.args(more).output().expect("the binary was built");
        assert!(!output.status.success() && output.stdout.is_empty(), "{more:?}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("--") || said.contains("no-such.pem"), "{said}");
    }
}

const KEY: &str = "Ringway-Token: 00ff000000000001\r\n";
const STAGE: &str = "Ringway-Stage: 1-1-0-1\r\n";
const FIRST: &str = "Ringway-Version: 0180000000000000-1-1-0\r\n";
const SECOND: &str = "Ringway-Version: 0180000000000001-1-1-0\r\n";

/// A stage and a commit of `body` while syncs of `pattern` fail. `staged` and `committed` are what
/// is answered; that a commit is not acknowledged shows that this sync stands before it.
fn fail_one_sync(pattern: &str, body: &[u8], staged: u16, committed: Option<&str>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let Some(disk) = FailingSyncs::build(folder.path()) else { return };
    let mut command = command(&data);
    command.envs(disk.environment());
    let store = StoreProcess::start_with(command);
    let mut node = Node::bound(&store);
    let kept = node.ask("PUT", "value/k", &format!("{KEY}{FIRST}"), b"kept").expect("an answer");
    assert_eq!(kept.status, 200, "{kept:?}");

    disk.fail(pattern);
    let stage = node.ask("PUT", "stage/k", &format!("{KEY}{STAGE}"), body).expect("an answer");
    assert_eq!(stage.status, staged, "{pattern}: {stage:?}");
    if let Some(refusal) = committed {
        let fields = format!("{KEY}{STAGE}{SECOND}");
        let reply = node.ask("POST", "commit/k", &fields, b"").expect("an answer");
        assert_eq!(reply.field("ringway-error"), Some(refusal), "{pattern}: {reply:?}");
    }
    // The next fsync would succeed, as Linux has it: that must not tempt the store.
    disk.mend();
    let head = node.ask("GET", "value/k", KEY, b"").expect("an answer");
    assert_eq!((head.status, &*head.body), (200, &b"kept"[..]), "it was not acknowledged");
    for (method, rest) in [("PUT", "value/k"), ("DELETE", "value/k"), ("POST", "commit/k")] {
        let fields = format!("{KEY}{STAGE}{SECOND}");
        let reply = node.ask(method, rest, &fields, b"").expect("an answer");
        assert_eq!(reply.field("ringway-error"), Some("fenced"), "{method}: {reply:?}");
    }
    let state = node.ask("GET", "state", "", b"").expect("an answer");
    let state: serde_json::Value = serde_json::from_slice(&state.body).expect("JSON");
    assert!(state["fenced"].is_string(), "{state}");

    drop((node, store));
    let store = StoreProcess::start(&data);
    let mut node = Node::bound(&store);
    let found = node.ask("GET", "value/k", KEY, b"").expect("an answer");
    let may_be = found.body == b"kept" || (committed == Some("unknown") && found.body == body);
    assert!(may_be, "{found:?}");
    let fields = format!("{KEY}{SECOND}");
    let put = node.ask("PUT", "value/k", &fields, body).expect("an answer");
    assert_eq!(put.field("ringway-applied"), Some("yes"), "a start mends it: {put:?}");
}

#[test]
fn a_commit_whose_sync_failed_is_not_acknowledged() {
    fail_one_sync("/data/index.redb", b"small", 200, Some("unknown"));
    fail_one_sync("/data/index.redb", &[8; 300_000], 200, Some("unknown"));
    fail_one_sync("/data/bodies", &[8; 300_000], 200, Some("unknown"));
}

#[test]
fn a_large_stage_whose_sync_failed_is_not_answered_as_staged() {
    fail_one_sync("/data/incoming/", &[8; 300_000], 503, None);
}
