//! Whose turn is it?
//!
//! Each node could do all of this work; it is enough that one does. Nobody agrees on who: from the
//! clock, the pool's name and how many nodes there are, each computes whose turn it is. Two that
//! disagree for a moment, or a node whose turn passes while it is away, cost a pass more or a pass
//! later.

use std::time::Duration;

use crate::ids::PoolName;

/// How long a node whose turn it is to fill a shard is waited for before the next one begins.
const PATIENCE: Duration = Duration::from_secs(20);

fn first(pool: &PoolName, nodes: usize) -> usize {
    let sum = crc32fast::hash(pool.as_str().as_bytes());
    usize::try_from(sum).unwrap_or(0) % nodes.max(1)
}

/// The number of the period that a moment is in.
#[must_use]
pub(super) fn period(now_unix_ms: u64, interval: Duration) -> u64 {
    let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).max(1);
    now_unix_ms / interval_ms
}

/// Whether the pass of this period is this node's: nodes take turns.
#[must_use]
pub(super) fn is_ours(pool: &PoolName, period: u64, (own, nodes): (usize, usize)) -> bool {
    let nodes = nodes.max(1);
    let period = usize::try_from(period % nodes as u64).unwrap_or(0);
    (first(pool, nodes) + period) % nodes == own
}

/// Whether this node is to do at once what has waited for so long: the first node at once, and
/// one more with each [`PATIENCE`].
#[must_use]
pub(super) fn is_due(pool: &PoolName, waited: Duration, (own, nodes): (usize, usize)) -> bool {
    let nodes = nodes.max(1);
    let distance = (own + nodes - first(pool, nodes)) % nodes;
    waited >= PATIENCE * u32::try_from(distance).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pass_is_one_nodes_and_each_node_has_some() {
        let pool = PoolName::new("p").expect("a name");
        let ours = |own, at| is_ours(&pool, at, (own, 3));
        for at in 0..30 {
            assert_eq!((0..3).filter(|own| ours(*own, at)).count(), 1, "period {at}");
        }
        for own in 0..3 {
            assert_eq!((0..30).filter(|at| ours(own, *at)).count(), 10, "node {own}");
        }
        assert_eq!(period(7_199_999, Duration::from_secs(3600)), 1);
    }

    #[test]
    fn what_waits_is_done_by_another_if_the_first_is_away() {
        let pool = PoolName::new("p").expect("a name");
        let due = |waited| (0..3).filter(|own| is_due(&pool, waited, (*own, 3))).count();
        assert_eq!(due(Duration::ZERO), 1);
        assert_eq!(due(PATIENCE), 2);
        assert_eq!(due(3 * PATIENCE), 3);
        assert!(is_due(&pool, Duration::ZERO, (0, 1)), "one alone does all");
    }
}
