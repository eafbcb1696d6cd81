//! What has the cluster agreed about a shard, and when does this node go by it?
//!
//! The nodes' own views ride in their lease renewals, and where a majority of lease holders sees a
//! shard down, that is agreed: a *verdict*. It says the same on every node, so that all pass over
//! the same shards, and one node with a bad network card evicts nobody. (`cluster::verdict` has
//! the rule; here a verdict is an input.)
//!
//! A verdict is only as fresh as the group that gave it. A node that no longer hears the group
//! orders the shards by its own eyes again. Where verdicts alone move requests
//! ([`SharedHealth::verdict`](super::SharedHealth::verdict)), the last one stands: what this node
//! sees was never enough there.

use super::observation::{Class, PerClass};
use super::report::Scope;

/// How this node stands to the group that gives verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Group {
    /// There is none: the node is a group of one, and its own probes are the verdict.
    #[default]
    Alone,
    /// It is heard.
    Heard,
    /// It has not been heard for longer than it vouches for.
    Lost,
}

/// What is agreed about one shard: since when it is down, on this node's clock. `Default`: up.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Agreed {
    down_since_ms: PerClass<Option<u64>>,
}

/// What a new verdict has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turned {
    pub(super) down: Option<Scope>,
    pub(super) up: Option<Scope>,
}

impl Agreed {
    pub(super) fn is_down(&self, class: Class) -> bool {
        self.down_since_ms[class].is_some()
    }

    pub(super) fn down_since_ms(&self) -> PerClass<Option<u64>> {
        self.down_since_ms
    }

    /// Takes over the verdict as it is now.
    pub(super) fn set(&mut self, now_ms: u64, down: PerClass<bool>) -> Turned {
        let mut turned = [PerClass::default(), PerClass::default()];
        for class in Class::ALL {
            if down[class] != self.is_down(class) {
                self.down_since_ms[class] = down[class].then_some(now_ms);
                turned[usize::from(down[class])][class] = true;
            }
        }
        Turned { up: Scope::of(turned[0]), down: Scope::of(turned[1]) }
    }
}
