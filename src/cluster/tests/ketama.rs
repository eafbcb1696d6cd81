//! Pools that place keys as nginx does: what the agreed state does with them, and what an older
//! release is spared.

use super::*;

fn url(text: &str) -> BaseUrl {
    BaseUrl::parse(text).expect("a URL")
}

fn ketama() -> PoolSpec {
    PoolSpec { placement: Placement::Ketama, ..pool(160) }
}

fn at(text: &str) -> ShardSpec {
    ShardSpec { url: url(text), ..shard("east", 1) }
}

fn create() -> Command {
    let shards = [("s1", "http://10.0.0.1:8080"), ("s2", "http://10.0.0.2:8080")];
    let shards = shards.map(|(id, url)| (shard_id(id), at(url)));
    Command::CreatePool { pool: pool_name("p"), spec: ketama(), shards: shards.to_vec() }
}

fn epoch(state: &ClusterState) -> Epoch {
    state.pools()[&pool_name("p")].epoch
}

/// An owner is named by nginx's name, which an address is part of.
#[test]
fn an_address_moves_keys_unless_the_name_is_kept() {
    let mut state = ClusterState::default();
    state.apply_command(&create()).expect("a pool");
    let name = pool_name("p");
    let set = |spec: ShardSpec| Command::SetShards {
        pool: name.clone(),
        put: vec![(shard_id("s2"), spec)],
        remove: vec![],
    };
    let kept = Some(KetamaName::new("10.0.0.2:8080").expect("a name"));
    let moved = ShardSpec { ketama_name: kept, ..at("http://10.0.0.9:8080") };
    state.apply_command(&set(moved)).expect("a shard elsewhere");
    assert_eq!(epoch(&state), Epoch(1));
    state.apply_command(&set(at("http://10.0.0.9:8080"))).expect("a shard elsewhere");
    assert_eq!(epoch(&state), Epoch(2));
    // What was in force is still known as it was.
    let key = b"/some/key";
    let owner = |epoch: u64| {
        let ring = state.ring_at(&name, Epoch(epoch)).expect("a ring");
        let owner = ring.replicas(ring.token(key))[0];
        (ring.member(owner).id.clone(), ring.digest())
    };
    let mut first = ClusterState::default();
    first.apply_command(&create()).expect("a pool");
    let digest = first.ring_at(&name, Epoch(1)).expect("a ring").digest();
    assert_eq!(owner(1).1, digest);
    assert_ne!(owner(2).1, digest);
    let again = ClusterState::decode(&state.encode()).expect("our own bytes");
    assert_eq!(again, state);
}

#[test]
fn one_pool_may_go_over_and_back() {
    let mut state = ClusterState::default();
    let Command::CreatePool { pool: name, shards, .. } = create() else { unreachable!() };
    let by_tokens = Command::CreatePool { pool: name.clone(), spec: pool(8), shards };
    state.apply_command(&by_tokens).expect("a pool");
    let digest = |state: &ClusterState, epoch: u64| {
        state.ring_at(&name, Epoch(epoch)).expect("a ring").digest()
    };
    let before = digest(&state, 1);
    for spec in [ketama(), pool(8)] {
        let set = Command::SetPool { pool: name.clone(), spec };
        state.apply_command(&set).expect("another placement");
    }
    assert_eq!(epoch(&state), Epoch(3));
    assert_eq!((digest(&state, 1), digest(&state, 3)), (before, before));
    assert_ne!(digest(&state, 2), before);
    let ClusterState { .. } = ClusterState::decode(&state.encode()).expect("our own bytes");
}

/// A node of the first release cannot read `ketama` in its log, nor a URL with `https`: neither
/// must come there before every node can.
#[test]
fn nothing_of_it_is_told_to_nodes_that_do_not_know_it() {
    let level = |command: &Command| command.feature_level();
    let (two, one) = (FeatureLevel(2), FeatureLevel(1));
    let name = pool_name("p");
    let named = ShardSpec {
        ketama_name: Some(KetamaName::new("10.0.0.2").expect("a name")),
        ..at("http://10.0.0.2")
    };
    let put = |spec: &ShardSpec| Command::SetShards {
        pool: name.clone(),
        put: vec![(shard_id("s2"), spec.clone())],
        remove: vec![],
    };
    let added = |spec: &ShardSpec| {
        let (pool, shard, spec) = (name.clone(), shard_id("s2"), spec.clone());
        vec![Change::AddShard { pool, shard, spec }]
    };
    assert_eq!(level(&create()), two);
    assert_eq!(level(&Command::SetPool { pool: name.clone(), spec: ketama() }), two);
    assert_eq!(level(&Command::SetPool { pool: name.clone(), spec: pool(160) }), one);
    assert_eq!(level(&put(&named)), two);
    assert_eq!(level(&put(&at("http://10.0.0.2"))), one);
    assert_eq!(level(&Command::Stage { changes: added(&named) }), two);
    assert_eq!(level(&Command::ChangeNow { changes: added(&at("http://h")) }), one);
    // The same with a scheme that the first release takes for a mistake.
    let secure = at("https://h");
    assert_eq!(level(&put(&secure)), two);
    assert_eq!(level(&Command::ChangeNow { changes: added(&secure) }), two);
    let moved = |url: &str| {
        let url = at(url).url;
        let change = Change::SetUrl { pool: name.clone(), shard: shard_id("s2"), url };
        level(&Command::Stage { changes: vec![change] })
    };
    assert_eq!((moved("https://h"), moved("http://h")), (two, one));
    let mut state = founded();
    let revision = state.revision().next();
    let refused = state.apply(revision, &envelope(None, create()));
    assert_eq!(refused, Err(Refusal::Level { needs: two, agreed: one }));
    // And what is written without it has no word of it.
    let plain = serde_json::to_string(&(pool(8), at("http://h"))).expect("JSON");
    assert!(!plain.contains("ketama"), "{plain}");
}
