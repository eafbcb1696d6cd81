//! A shard of a pool that keeps data, as nodes see it.

mod births;
mod collecting;
mod damage;
mod faults;
mod fencing;
mod layout;
mod model;
mod reading;
mod writing;

use super::*;
use crate::ids::{Incarnation, NodeId, Token};
use crate::protocol::replica::{Page as KeptPage, SUM_BYTES, Sum};
use crate::version::{Proposer, Stamp, Version};

/// The cluster that tests act for.
const CLUSTER: &str = "0102030405060708090a0b0c0d0e0f10";

/// A version so many milliseconds after [`noon`].
fn version(after_ms: i64) -> Version {
    let proposer = Proposer { node: NodeId(3), incarnation: Incarnation(17), worker: 2 };
    let ms = noon().checked_add_signed(after_ms).expect("not so long before");
    Version { stamp: Stamp::of_ms(ms), proposer }
}

/// Any place on the circle, but always the same for a key.
fn token(key: &str) -> Token {
    let hash = blake3::hash(key.as_bytes());
    Token(u64::from_be_bytes(*hash.as_bytes().first_chunk().expect("32 bytes have 8")))
}

/// A node that speaks to one store.
struct Node {
    fields: Vec<String>,
    connection: Connection,
}

impl Node {
    async fn new(server: &Server, epoch: &str) -> Self {
        Self::of(server, CLUSTER, epoch, &server.store().id().to_string()).await
    }

    async fn of(server: &Server, cluster: &str, epoch: &str, store: &str) -> Self {
        let fields = vec![
            format!("Ringway-Cluster: {cluster}"),
            format!("Ringway-Epoch: {epoch}"),
            format!("Ringway-Store: {store}"),
        ];
        Self { fields, connection: server.connect().await }
    }

    async fn ask(&mut self, method: &str, rest: &str, fields: &[&str], body: &[u8]) -> Reply {
        let own = self.fields.iter().map(String::as_str).chain(fields.iter().copied());
        let own: Vec<&str> = own.collect();
        self.connection.ask(method, &format!("/_ringway/replica/{rest}"), &own, body).await
    }

    async fn keyed(
        &mut self,
        method: &str,
        op: &str,
        key: &str,
        fields: &[&str],
        body: &[u8],
    ) -> Reply {
        let token = format!("Ringway-Token: {}", token(key));
        let mut all = vec![token.as_str()];
        all.extend_from_slice(fields);
        self.ask(method, &format!("objects/{op}/{key}"), &all, body).await
    }

    async fn bind(&mut self, pool: &str, shard: &str) -> Reply {
        let shard = format!("Ringway-Shard: {shard}");
        self.ask("POST", &format!("{pool}/bind"), &[&shard], b"").await
    }

    async fn stage(&mut self, key: &str, stage: &str, body: &[u8]) -> Reply {
        self.keyed("PUT", "stage", key, &[&format!("Ringway-Stage: {stage}")], body).await
    }

    async fn commit(&mut self, key: &str, stage: &str, version: Version) -> Reply {
        let fields = [format!("Ringway-Stage: {stage}"), format!("Ringway-Version: {version}")];
        self.keyed("POST", "commit", key, &fields.each_ref().map(String::as_str), b"").await
    }

    async fn put(&mut self, key: &str, version: Version, body: &[u8]) -> Reply {
        self.keyed("PUT", "value", key, &[&format!("Ringway-Version: {version}")], body).await
    }

    async fn delete(&mut self, key: &str, version: Version) -> Reply {
        self.keyed("DELETE", "value", key, &[&format!("Ringway-Version: {version}")], b"").await
    }

    /// Tells of a value whose bytes nobody has.
    async fn lost(&mut self, key: &str, version: Version, body: &[u8]) -> Reply {
        let fields = [
            format!("Ringway-Version: {version}"),
            format!("Ringway-Size: {}", body.len()),
            format!("Ringway-Digest: {}", blake3::hash(body)),
        ];
        self.keyed("POST", "damaged", key, &fields.each_ref().map(String::as_str), b"").await
    }

    async fn get(&mut self, key: &str) -> Reply {
        self.keyed("GET", "value", key, &[], b"").await
    }

    async fn head(&mut self, key: &str) -> Reply {
        self.keyed("HEAD", "value", key, &[], b"").await
    }

    async fn page(&mut self, rest: &str) -> KeptPage {
        let reply = self.ask("GET", &format!("objects/{rest}"), &[], b"").await;
        assert_eq!(reply.status, 200, "{reply:?}");
        serde_json::from_slice(&reply.body).expect("a page")
    }

    async fn collect(&mut self, slot: u16, lines: &[(&str, Version)]) -> Reply {
        let lines: String =
            lines.iter().map(|(key, version)| format!("{key} {version}\n")).collect();
        let rest = format!("objects/watermark?slot={slot}");
        self.ask("POST", &rest, &[], lines.as_bytes()).await
    }

    async fn sums(&mut self, query: &str) -> Vec<Sum> {
        let reply = self.ask("GET", &format!("objects/digests{query}"), &[], b"").await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let sums = reply.body.chunks(SUM_BYTES);
        sums.map(|sum| Sum::from_bytes(sum.try_into().expect("whole sums"))).collect()
    }

    /// All that is held, by token and key.
    async fn everything(&mut self) -> KeptPage {
        let mut all = KeptPage::default();
        let mut rest = "keys?limit=7".to_owned();
        loop {
            let page = self.page(&rest).await;
            all.keys.extend(page.keys);
            match page.next {
                Some(next) => rest = format!("keys?limit=7&cursor={next}"),
                None => return all,
            }
        }
    }
}

/// A store that is shard `s1` of the pool `objects`, and a node of its cluster.
async fn shard() -> (Server, Node, TempDir) {
    let (server, folder) = fresh().await;
    let mut node = Node::new(&server, "0.1").await;
    assert_eq!(node.bind("objects", "s1").await.status, 200);
    (server, node, folder)
}

impl Reply {
    /// Checks that a write was judged so, and answers what is held.
    fn judged(&self, applied: bool) -> Version {
        assert_eq!(self.status, 200, "{self:?}");
        assert_eq!(self.field("ringway-applied"), Some(if applied { "yes" } else { "no" }));
        self.version()
    }

    /// Checks that a write was refused for its slot's watermark, which is answered.
    fn forgotten(&self) -> Version {
        assert_eq!(self.status, 200, "{self:?}");
        assert_eq!(self.field("ringway-applied"), Some("forgotten"));
        self.version()
    }

    fn version(&self) -> Version {
        let version = self.field("ringway-version").unwrap_or_else(|| panic!("{self:?}"));
        version.parse().expect("a version")
    }
}
