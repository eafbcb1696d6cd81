//! How does a node take part in a cluster?
//!
//! Without a `cluster` section a node is standalone and its file is the truth. With one, the
//! agreed state is the truth for pools and shards: those of the file are what a new cluster begins
//! with, and afterwards a difference is shown, never acted on.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::cluster::{NODES_MAX, Role};
use crate::ids::PeerAddress;

use super::checked::{ClusterConfig, Election, ListenConfig, TlsConfig};
use super::process::path;
use super::schema;
use super::section::{Section, Unique};
use super::spot::Spot;
use super::units::{self, show_duration};

/// Under a second, renewals of the lease would crowd out the log.
const LEASE_MIN: Duration = Duration::from_secs(1);

/// Over ten minutes, a node that is gone would hold up every change of the ring for that long.
const LEASE_MAX: Duration = Duration::from_secs(600);

/// Leases outlast a change of leader, which takes two or three election timeouts.
const LEASE_ELECTIONS_MIN: u32 = 4;

/// A heartbeat or two that come late, behind an fsync or a busy core, must not call an election.
const ELECTION_HEARTBEATS_MIN: u32 = 3;

/// An fsync on a busy disk was seen to take 100 to 300 ms, and the leader sends nothing meanwhile.
const ELECTION_USUAL: Duration = Duration::from_millis(300);

/// Reads the section; `None` if there is none, or it is no section.
pub(super) fn cluster(file: &Section<'_>, listen: &ListenConfig) -> Option<ClusterConfig> {
    let section = file.sub("cluster", &schema::CLUSTER)?;
    let peer_spot = file.get("listen").and_then(|spot| spot.entry("peer"));
    let advertise = advertise(&section, listen, peer_spot.as_ref());
    let join = join(&section);
    let mut role = Role::Voter;
    let roles = [("voter", Role::Voter), ("observer", Role::Observer)];
    section.set("role", &mut role, |spot| spot.one_of(&roles, &[]));
    let usual = ClusterConfig::default();
    let mut lease = usual.lease;
    section.set("lease", &mut lease, |spot| {
        let lease = spot.duration_from(LEASE_MIN)?;
        if lease > LEASE_MAX {
            let message = format!("{} is out of range", spot.found());
            let (least, most) = (show_duration(LEASE_MIN), show_duration(LEASE_MAX));
            return spot.refuse(message, format!("write a duration from {least} to {most}"));
        }
        Some(lease)
    });
    let mut heartbeat = usual.heartbeat;
    section.set("heartbeat", &mut heartbeat, |spot| spot.duration_from(Duration::from_millis(10)));
    let mut election = usual.election;
    section.set("election", &mut election, read_election);
    judge_times(&section, lease, heartbeat, election);
    let tls = section.sub("tls", &schema::CLUSTER_TLS).and_then(|section| tls(&section));
    judge_reach(&section, listen, peer_spot.as_ref(), advertise.as_ref(), &join);
    if role == Role::Observer
        && join.is_empty()
        && let Some(spot) = section.get("role")
    {
        spot.warn("an observer founds no cluster, and nobody is asked to take it in", JOIN_HELP);
    }
    // A list that is the same on every node names this one too.
    let others = join.into_iter().map(|(address, _)| address);
    let join = others.filter(|address| Some(address) != advertise.as_ref()).collect();
    Some(ClusterConfig { advertise, join, role, lease, heartbeat, election, tls })
}

const JOIN_HELP: &str = "write `join` with the addresses of nodes that are in the cluster";

/// How the others reach this node: as written, or as it listens.
fn advertise(
    section: &Section<'_>,
    listen: &ListenConfig,
    peer_spot: Option<&Spot<'_>>,
) -> Option<PeerAddress> {
    const HELP: &str = "write `cluster.advertise: HOST:PORT`, as the other nodes reach this one";
    if let Some(spot) = section.get("advertise") {
        let address = spot.parsed("`HOST:PORT`", PeerAddress::parse)?;
        if ip_of(&address).is_some_and(|ip| ip.is_unspecified()) {
            return spot.refuse(format!("nobody can connect to {address}"), HELP);
        }
        return Some(address);
    }
    let peer = listen.peer.filter(|peer| peer.port() != 0)?;
    if peer.ip().is_unspecified() {
        let message = format!("this node listens on {peer}, to which nobody can connect");
        return peer_spot.unwrap_or(section.spot()).refuse(message, HELP);
    }
    PeerAddress::parse(&peer.to_string()).ok()
}

fn join<'a>(section: &Section<'a>) -> Vec<(PeerAddress, Spot<'a>)> {
    let Some(spot) = section.get("join") else { return vec![] };
    let Some(spots) = spot.items_or_one() else { return vec![] };
    // A list that names every node is the longest that makes sense.
    if spots.len() > NODES_MAX {
        spot.refuse::<()>(
            format!("found {} addresses", spots.len()),
            format!("write at most {NODES_MAX}: one that answers is enough"),
        );
        return vec![];
    }
    let mut addresses = Unique::new();
    let mut found = Vec::new();
    for spot in spots {
        let Some(address) = spot.parsed("`HOST:PORT`", PeerAddress::parse) else { continue };
        let message = format!("the address {address} is there twice");
        addresses.note(address.clone(), &spot, &message, "remove one");
        found.push((address, spot));
    }
    found
}

/// Reads `500ms-1s`.
fn read_election(spot: &Spot<'_>) -> Option<Election> {
    const HELP: &str = "write the shortest and the longest timeout, such as `500ms-1s`";
    let bounds = spot.text("two durations, such as `500ms-1s`")?.split_once('-');
    let read = |text: &str| units::duration(text.trim());
    let bounds = bounds.and_then(|(min, max)| Some((read(min)?, read(max)?)));
    match bounds {
        Some((min, max)) if min < max && max <= LEASE_MAX => Some(Election { min, max }),
        Some((min, max)) if min >= max => spot.refuse(
            format!("{} is not an interval: nodes must wait for different times", spot.found()),
            HELP,
        ),
        Some(_) => {
            spot.refuse(format!("{} is out of range", spot.found()), "stay far below a lease")
        }
        None => spot.refuse_kind("an interval of durations", HELP),
    }
}

/// Looks at what three times mean for each other.
fn judge_times(section: &Section<'_>, lease: Duration, heartbeat: Duration, election: Election) {
    let spot = |key, other| section.get(key).or_else(|| section.get(other));
    let least = heartbeat * ELECTION_HEARTBEATS_MIN;
    if election.min < least
        && let Some(spot) = spot("heartbeat", "election")
    {
        let message = format!(
            "an election may be called after {}, and heartbeats come every {}",
            show_duration(election.min),
            show_duration(heartbeat)
        );
        let help = format!(
            "leave time for {ELECTION_HEARTBEATS_MIN} heartbeats: begin `election` at {} or \
             more, or lower `heartbeat`",
            show_duration(least)
        );
        spot.refuse::<()>(message, help);
    } else if election.min < ELECTION_USUAL
        && let Some(spot) = section.get("election")
    {
        let message = format!("an election may be called after {}", show_duration(election.min));
        let help = "one slow fsync of the leader's is enough then: 300ms is little already";
        spot.warn(message, help);
    }
    let least = election.max * LEASE_ELECTIONS_MIN;
    if lease < least
        && let Some(spot) = spot("lease", "election")
    {
        let message = format!(
            "a lease of {} may run out while a leader is elected, which may take {} more than once",
            show_duration(lease),
            show_duration(election.max)
        );
        let help =
            format!("raise `lease` to {} or more, or lower `election`", show_duration(least));
        spot.refuse::<()>(message, help);
    }
}

fn tls(section: &Section<'_>) -> Option<TlsConfig> {
    const HELP: &str = "the path of a PEM file, as `ringway certs` makes it";
    let file = |key| section.need(key, HELP).and_then(|spot| path(&spot, HELP));
    let (ca, cert, key) = (file("ca"), file("cert"), file("key"));
    Some(TlsConfig { ca: ca?, cert: cert?, key: key? })
}

/// Looks at who can reach whom: peers beyond this host need TLS, and an address at which they
/// reach this one.
fn judge_reach(
    section: &Section<'_>,
    listen: &ListenConfig,
    peer_spot: Option<&Spot<'_>>,
    advertise: Option<&PeerAddress>,
    join: &[(PeerAddress, Spot<'_>)],
) {
    let remote = join.iter().find(|(address, _)| !is_loopback(address));
    if let (Some(own), Some((there, spot))) = (advertise, remote)
        && is_loopback(own)
    {
        let message = format!("{there} is told to reach this node at {own}, and cannot");
        let help = "write `listen.peer` or `cluster.advertise` with an address of this host";
        spot.refuse::<()>(message, help);
    }
    if section.get("tls").is_some() {
        return;
    }
    let listens_beyond = listen.peer.filter(|peer: &SocketAddr| !peer.ip().is_loopback());
    let own_beyond = advertise.filter(|own| !is_loopback(own));
    let advertise_spot = section.get("advertise");
    let beyond = remote.map(|(_, spot)| spot);
    let beyond = beyond.or(own_beyond.and(advertise_spot.as_ref()));
    let beyond = beyond.or(listens_beyond.and(peer_spot));
    if let Some(spot) = beyond {
        let help = "write `cluster.tls` with `ca`, `cert` and `key`: `ringway certs` makes them";
        let message = "beyond this host, nodes must prove to each other who they are";
        spot.refuse::<()>(message, help);
    }
}

fn ip_of(address: &PeerAddress) -> Option<IpAddr> {
    address.host().parse().ok()
}

/// Whether only this host reaches the address. A name may lead anywhere.
fn is_loopback(address: &PeerAddress) -> bool {
    address.host() == "localhost" || ip_of(address).is_some_and(|ip| ip.is_loopback())
}
