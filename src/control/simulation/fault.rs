//! What befalls whom, and when?

use std::collections::BTreeMap;

use fastrand::Rng;

/// When the faults begin: by then everybody has joined.
pub const FAULTS_FROM_MS: u64 = 4_000;

/// When everything heals.
pub const HEALED_MS: u64 = 20_000;

/// One thing that happens.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// The process is killed; the kernel writes on.
    Kill(usize),
    /// The machine loses its power.
    PowerCut(usize),
    /// It starts again.
    Start(usize),
    /// One node is cut off from all others.
    Isolate(usize),
    /// One node hears the others, and they do not hear it.
    Mute(usize),
    /// Nothing passes between two nodes.
    Cut(usize, usize),
    /// What passes between two nodes is late.
    Hold(usize, usize),
    /// Whatever the network had is over.
    Repair,
    /// The next fsync fails.
    FailSync(usize),
    /// The disk is full.
    Fill(usize),
    /// It has room again.
    Free(usize),
    /// All nodes take a snapshot, and drop most of what it covers from their logs.
    Snapshot,
    /// A node wants to lead.
    Lead(usize),
    /// A node proposes more at once than the log keeps: who is away needs the snapshot.
    Burst(usize),
}

/// When a node goes away that is to need the snapshot, when the others take one, and when it is back:
/// a group agrees on some forty things a second here, and has to forget what the node lacks behind
/// the five hundred that it keeps. A leader forgets nothing that it is just sending to the node, so
/// that some calls to it have to come to nothing first.
const AWAY_MS: [u64; 3] = [1_500, 15_000, 18_500];

/// What happens, by when: faults, each with its end. With `away` the last node is gone first until it
/// needs the snapshot, and nothing else is wrong meanwhile: left to chance, few runs come to that.
pub fn schedule(rng: &mut Rng, nodes: usize, away: bool) -> BTreeMap<u64, Vec<Fault>> {
    let mut schedule: BTreeMap<u64, Vec<Fault>> = BTreeMap::new();
    let mut at_ms = FAULTS_FROM_MS;
    if away {
        let (node, [gone_ms, snapshot_ms, back_ms]) = (nodes - 1, AWAY_MS);
        schedule.insert(gone_ms, vec![Fault::PowerCut(node), Fault::Burst(0)]);
        schedule.insert(snapshot_ms, vec![Fault::Snapshot]);
        schedule.insert(back_ms, vec![Fault::Start(node)]);
        at_ms = back_ms + 1_000;
    }
    while at_ms < HEALED_MS {
        let node = rng.usize(0..nodes);
        let other = (node + rng.usize(1..nodes)) % nodes;
        let end_ms = at_ms + rng.u64(200..3_000);
        let events: &[(u64, Fault)] = match rng.u8(0..14) {
            0 => &[(at_ms, Fault::Kill(node)), (end_ms, Fault::Start(node))],
            1 | 2 => &[(at_ms, Fault::PowerCut(node)), (end_ms, Fault::Start(node))],
            3 => &[(at_ms, Fault::Isolate(node)), (end_ms, Fault::Repair)],
            4 => &[(at_ms, Fault::Mute(node)), (end_ms, Fault::Repair)],
            5 => &[(at_ms, Fault::Cut(node, other)), (end_ms, Fault::Repair)],
            6 => &[(at_ms, Fault::Hold(node, other)), (end_ms, Fault::Repair)],
            7 => &[(at_ms, Fault::FailSync(node))],
            8 => &[(at_ms, Fault::Fill(node)), (end_ms, Fault::Free(node))],
            9 => &[(at_ms, Fault::Snapshot), (at_ms + 50, Fault::Lead(other))],
            10 => &[(at_ms, Fault::Lead(node))],
            11 => &[
                (at_ms, Fault::PowerCut(node)),
                (at_ms + 500, Fault::Burst(other)),
                (at_ms + 2_500, Fault::Snapshot),
                (at_ms + 3_000, Fault::Start(node)),
            ],
            _ => &[],
        };
        for (at_ms, fault) in events {
            schedule.entry(*at_ms).or_default().push(*fault);
        }
        at_ms += rng.u64(200..1_400);
    }
    schedule.retain(|at_ms, _| *at_ms < HEALED_MS);
    schedule
}
