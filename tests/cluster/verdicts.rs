//! Is a dead shard down for all, and can one node with a bad network card take a shard from the
//! others? Fault rows 1 and 7.

use std::net::SocketAddr;
use std::time::Duration;

use crate::group::{AGREEMENT_MAX, Cluster, POOL, Setup};
use crate::links::{Links, Sources, Weather};
use crate::support::ringway::Store;
use crate::support::say::say;
use crate::support::wait::{all_the_while, until_within};
use crate::turns::together;

/// Three nodes over three stores, with a wire from each node to each store.
fn over_stores(sources: &Sources) -> (Cluster, Vec<Store>) {
    let stores: Vec<Store> = (0..3).map(|_| Store::start()).collect();
    let addresses: Vec<SocketAddr> = stores.iter().map(|store| store.address).collect();
    let wires = Links::new(&addresses, 3);
    let mut cluster = Cluster::prepare(&Setup::default(), |at, member, rest| {
        member.environment = sources.environment(at);
        rest.shards.clone_from(&wires.addresses);
        rest.probe = "/_ringway/health";
    });
    cluster.views = Some(wires);
    (cluster.founded(), stores)
}

fn verdict(cluster: &Cluster, at: usize, shard: &str) -> Option<String> {
    Some(cluster.view(at)?.shard(POOL, shard)?["verdict"].as_str()?.to_owned())
}

/// Waits until every node has this verdict; how long it took.
#[track_caller]
fn until_verdict(cluster: &Cluster, shard: &str, wanted: &str) -> Duration {
    let begun = std::time::Instant::now();
    for at in cluster.running() {
        until_within(&format!("n{} has {shard} {wanted}", at + 1), AGREEMENT_MAX, || {
            (verdict(cluster, at, shard)? == wanted).then_some(())
        });
    }
    begun.elapsed()
}

#[test]
fn a_dead_shard_is_down_for_all_and_one_bad_network_card_evicts_none() {
    let _turn = together();
    let Some(sources) = Sources::build() else { return };
    let (cluster, mut stores) = over_stores(&sources);
    let epochs = cluster.until_agreed().serves();
    until_verdict(&cluster, "s1", "up");
    stores[0].process.kill_9();
    let down = until_verdict(&cluster, "s1", "down");
    stores[0].start_again();
    let up = until_verdict(&cluster, "s1", "up");
    say(&format!(
        "  a shard is agreed down after {} ms, up after {} ms",
        down.as_millis(),
        up.as_millis()
    ));

    // The leader's card is the worst one to be bad.
    let blind = cluster.leader();
    let wires = cluster.views.as_ref().expect("wires to the shards");
    wires.set(&[(blind, 1)], Weather::Cut);
    until_within("it sees the shard down", AGREEMENT_MAX, || {
        let view = cluster.view(blind)?;
        let seen = view.shard(POOL, "s2")?;
        (!seen["reads"].as_str()?.starts_with("up")).then_some(())
    });
    all_the_while(Duration::from_secs(4), || {
        for at in cluster.running() {
            let verdict = verdict(&cluster, at, "s2");
            assert!(verdict.is_none_or(|verdict| verdict == "up"), "one view is no majority");
        }
    });
    // With a second one it is.
    let second = cluster.others(blind)[0];
    wires.set(&[(second, 1)], Weather::Cut);
    until_verdict(&cluster, "s2", "down");
    wires.mend();
    until_verdict(&cluster, "s2", "up");
    assert_eq!(cluster.until_agreed().serves(), epochs, "health moves no epoch");
}
