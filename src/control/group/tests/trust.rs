//! Who is believed to be whom.

use std::sync::Arc;

use bytes::Bytes;

use super::super::{Storage, wire};
use super::nodes::{Wires, create, open};
use crate::cluster::{Actor, Command, Envelope, Settings};
use crate::ids::{CommandId, Incarnation, NodeId};
use crate::net::peer::{Introduction, PeerRequest};

fn proposal(id: Option<u64>, command: Command) -> Bytes {
    let id = id.map(|node| CommandId {
        node: NodeId(node),
        incarnation: Incarnation(1),
        sequence: u64::MAX,
    });
    let actor = Actor::new("admin@n1").expect("printable");
    wire::encode(&Envelope { id, actor, at_ms: 0, command })
}

/// Any certificate of the cluster could speak for any node, and end its session with one number.
#[tokio::test]
async fn a_certificate_speaks_for_its_own_node_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let group = open(&Wires::default(), 1, folder.path(), Storage::Files).await.expect("opened");
    group.found("admin@n1", Settings::default(), vec![create("p")]).await.expect("founded");
    let member = group.member().expect("founded");
    let ask = async |certificate: Option<&str>, path: &str, body: Bytes| {
        let request = PeerRequest {
            path: path.to_owned(),
            body,
            introduction: Introduction { cluster: Some((member.cluster, member.generation)) },
            certificate: certificate.map(Arc::from),
            from: ([127, 0, 0, 1], 1).into(),
        };
        group.handle(request).await.status
    };
    let vote = || Bytes::from_static(br#"{"from":1,"to":1,"message":0}"#);
    assert_eq!(ask(Some("other"), wire::VOTE, vote()).await, 403);
    assert_eq!(ask(Some("other"), wire::PROPOSE, proposal(Some(1), create("q"))).await, 403);
    // Nobody gives a command that would be applied as often as it came.
    assert_eq!(ask(None, wire::PROPOSE, proposal(None, create("q"))).await, 400);
    assert_eq!(group.state().pools().len(), 1);
    let own = group.state().nodes()[&NodeId(1)].name.to_string();
    assert_eq!(ask(Some(&own), wire::PROPOSE, proposal(Some(1), create("q"))).await, 200);
    group.shutdown().await;
}
