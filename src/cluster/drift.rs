//! Where do a node's file and what is agreed differ?
//!
//! In a cluster the file of a node only seeds an empty cluster; afterwards commands alone change
//! pools and shards, and nothing that a file says does. So a difference is no error, but somebody
//! may believe the file. It is told in sentences, in which what is agreed comes first, since that
//! is what is served.

use std::collections::BTreeSet;

use super::desired::{Desired, DesiredPool};
use super::kept::KeptSpec;
use super::pool::{PoolSpec, PoolState, ShardSpec};
use super::state::ClusterState;
use crate::ids::{KetamaName, PoolName, ShardId};

/// The most differences that are told one by one; more are a file of another cluster.
const DIFFERENCES_MAX: usize = 100;

/// Tells what differs between what is agreed and `desired`. Pools of `settings_only` are not
/// compared: the file leaves their shards to the cluster.
///
/// Nothing differs as long as nothing is agreed.
#[must_use]
pub fn drift(
    agreed: &ClusterState,
    desired: &Desired,
    settings_only: &BTreeSet<PoolName>,
) -> Vec<String> {
    let mut found = Vec::new();
    if agreed.identity().is_none() {
        return found;
    }
    for (name, pool) in agreed.pools() {
        match desired.get(name) {
            Some(wanted) => compare(name, pool, wanted, &mut found),
            None if settings_only.contains(name) => {}
            None => found.push(format!("pool `{name}` is agreed, and the file does not have it")),
        }
    }
    let missing = desired.keys().chain(settings_only);
    for name in missing.filter(|name| !agreed.pools().contains_key(*name)) {
        found.push(format!("pool `{name}` is in the file, and not agreed"));
    }
    let more = found.len().saturating_sub(DIFFERENCES_MAX);
    if more > 0 {
        found.truncate(DIFFERENCES_MAX);
        found.push(format!("and {more} further differences"));
    }
    found
}

fn compare(name: &PoolName, agreed: &PoolState, wanted: &DesiredPool, found: &mut Vec<String>) {
    let PoolSpec { kind, placement, hash_seed, vnodes, immutable, mode, kept } = &agreed.spec;
    let spec = &wanted.spec;
    let mut differs = |key: &str, is: String, would_be: String| {
        if is != would_be {
            found.push(format!("pool `{name}`: `{key}` is {is}, and {would_be} in the file"));
        }
    };
    let word = |word: &dyn std::fmt::Debug| format!("{word:?}").to_lowercase();
    differs("kind", word(kind), word(&spec.kind));
    differs("placement", word(placement), word(&spec.placement));
    differs("hash_seed", format!("`{hash_seed}`"), format!("`{}`", spec.hash_seed));
    differs("vnodes", vnodes.to_string(), spec.vnodes.to_string());
    differs("immutable", immutable.to_string(), spec.immutable.to_string());
    differs("mode", word(mode), word(&spec.mode));
    if let (Some(kept), Some(wanted)) = (kept, &spec.kept) {
        let KeptSpec { replicas, consistency, tombstone_min_age_ms, key } = kept;
        differs("replicas", replicas.to_string(), wanted.replicas.to_string());
        differs("consistency", consistency.to_string(), wanted.consistency.to_string());
        let age = |ms: &u64| format!("{ms} ms");
        differs("tombstone_min_age", age(tombstone_min_age_ms), age(&wanted.tombstone_min_age_ms));
        differs("key", format!("`{key}`"), format!("`{}`", wanted.key));
    }
    for (id, shard) in &agreed.shards {
        match wanted.shards.get(id) {
            Some(wanted) => compare_shard(name, id, shard, wanted, found),
            None => found.push(format!(
                "pool `{name}`: shard `{id}` is agreed, and the file does not have it"
            )),
        }
    }
    for id in wanted.shards.keys().filter(|id| !agreed.shards.contains_key(*id)) {
        found.push(format!("pool `{name}`: shard `{id}` is in the file, and not agreed"));
    }
}

fn compare_shard(
    pool: &PoolName,
    id: &ShardId,
    agreed: &ShardSpec,
    wanted: &ShardSpec,
    found: &mut Vec<String>,
) {
    let ShardSpec { url, zone, weight, state, ketama_name } = agreed;
    let mut differs = |key: &str, is: String, would_be: String| {
        if is != would_be {
            found.push(format!(
                "pool `{pool}`: `{key}` of shard `{id}` is {is}, and {would_be} in the file"
            ));
        }
    };
    differs("url", url.to_string(), wanted.url.to_string());
    differs("zone", zone.to_string(), wanted.zone.to_string());
    let name = |name: &Option<KetamaName>| match name {
        None => "that of its URL".to_owned(),
        Some(name) => format!("`{name}`"),
    };
    differs("ketama_name", name(ketama_name), name(&wanted.ketama_name));
    differs("weight", weight.get().to_string(), wanted.weight.get().to_string());
    let word = |word: &dyn std::fmt::Debug| format!("{word:?}").to_lowercase();
    differs("state", word(state), word(&wanted.state));
}

#[cfg(test)]
mod tests {
    use super::super::{AdminState, Command, Kind, Mode, Placement, Settings};
    use super::*;
    use crate::ids::{BaseUrl, ClusterId, NodeName, PeerAddress, Weight, Zone};

    fn name(text: &str) -> PoolName {
        PoolName::new(text).expect("a name")
    }

    fn pool(shards: &[(&str, u64)]) -> DesiredPool {
        let shard = |(id, weight): &(&str, u64)| {
            let spec = ShardSpec {
                url: BaseUrl::parse(&format!("http://{id}:9000")).expect("a URL"),
                zone: Zone::default(),
                weight: Weight::try_from(*weight).expect("a weight"),
                state: AdminState::Ready,
                ketama_name: None,
            };
            (ShardId::new(id).expect("a name"), spec)
        };
        DesiredPool {
            spec: PoolSpec {
                kind: Kind::Cache,
                placement: Placement::Ring,
                hash_seed: "seed".to_owned(),
                vnodes: 16,
                immutable: false,
                mode: Mode::Any,
                kept: None,
            },
            shards: shards.iter().map(shard).collect(),
        }
    }

    #[test]
    fn what_differs_is_told_and_what_is_left_to_the_cluster_is_not() {
        let seed = Desired::from([
            (name("agreed"), pool(&[("a", 1)])),
            (name("objects"), pool(&[("s1", 1), ("s2", 1)])),
            (name("settings"), pool(&[("a", 1)])),
        ]);
        let mut state = ClusterState::default();
        for command in super::super::changes(&state.clone(), &seed) {
            state.apply_command(&command).expect("a pool");
        }
        let mut file = seed.clone();
        let objects = file.get_mut(&name("objects")).expect("it is there");
        objects.spec.mode = Mode::Primary;
        objects.spec.vnodes = 32;
        objects.shards = pool(&[("s2", 3), ("s3", 1)]).shards;
        file.remove(&name("agreed"));
        file.remove(&name("settings"));
        file.insert(name("wished"), pool(&[("a", 1)]));
        let settings_only = BTreeSet::from([name("settings")]);
        assert_eq!(drift(&state, &file, &settings_only), [""; 0], "nothing is agreed yet");

        found(&mut state);
        assert_eq!(drift(&state, &seed, &BTreeSet::new()), [""; 0]);
        assert_eq!(
            drift(&state, &file, &settings_only),
            [
                "pool `agreed` is agreed, and the file does not have it",
                "pool `objects`: `vnodes` is 16, and 32 in the file",
                "pool `objects`: `mode` is any, and primary in the file",
                "pool `objects`: shard `s1` is agreed, and the file does not have it",
                "pool `objects`: `weight` of shard `s2` is 1, and 3 in the file",
                "pool `objects`: shard `s3` is in the file, and not agreed",
                "pool `wished` is in the file, and not agreed",
            ]
        );
    }

    fn found(state: &mut ClusterState) {
        let command = Command::Found {
            cluster: ClusterId([1; 16]),
            node: NodeName::new("n1").expect("a name"),
            address: PeerAddress::parse("127.0.0.1:1").expect("an address"),
            settings: Settings::default(),
        };
        state.apply_command(&command).expect("the first of its kind");
    }
}
