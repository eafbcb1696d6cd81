//! How does a request or a background loop get something agreed?
//!
//! The data plane asks the control plane nothing before it answers, but for one thing: the first
//! write of a pool, which must be known to be a pool with something to lose. And background loops
//! find out what must be agreed: which store answers at a shard's address, and what it lacks.
//!
//! Wishes go through one queue, and whoever drains it puts them to the group, or to a standalone
//! node's own state. What holds already is not proposed again, so that a thousand writes that find
//! an empty pool cost one command.

use tokio::sync::{mpsc, oneshot};

use crate::cluster::{Change, ClusterState, Command, Refusal, StoreMark};
use crate::ids::{Birth, PoolName, ShardId, StoreId};

/// Wishes that wait: several for each shard of a large pool.
const WISHES_MAX: usize = 4096;

/// Something that shall be agreed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// A pool takes its first write.
    Fill {
        /// Which.
        pool: PoolName,
    },
    /// A store answers where a shard is that is bound to none.
    Bind {
        /// The pool.
        pool: PoolName,
        /// The shard.
        shard: ShardId,
        /// What the store calls itself.
        store: StoreId,
    },
    /// Something was found out about what a shard's store has.
    Mark {
        /// The pool.
        pool: PoolName,
        /// The shard.
        shard: ShardId,
        /// Its store.
        store: StoreId,
        /// What.
        mark: StoreMark,
    },
    /// The stores of a pool have data from before this node, without a cluster, lost its state.
    Adopt {
        /// The pool.
        pool: PoolName,
        /// When the one came to be whose data is there.
        born: Birth,
        /// The shards whose stores know nothing of it.
        fresh: Vec<ShardId>,
    },
    /// What an operator of a node without a cluster asks for, that no file can say.
    Change {
        /// What.
        changes: Vec<Change>,
    },
}

impl Wish {
    /// The command that makes it so.
    #[must_use]
    pub fn command(&self) -> Command {
        match self.clone() {
            Self::Fill { pool } => Command::MarkFilled { pool },
            Self::Bind { pool, shard, store } => Command::BindStore { pool, shard, store },
            Self::Mark { pool, shard, store, mark } => {
                Command::MarkStore { pool, shard, store, mark }
            }
            Self::Adopt { pool, born, fresh } => Command::AdoptPool { pool, born, fresh },
            Self::Change { changes } => Command::ChangeNow { changes },
        }
    }

    /// Whether it would be refused now and may be later: then it is not proposed, or every write that
    /// waits for it would be an entry of the log.
    #[must_use]
    pub fn is_early(&self, state: &ClusterState) -> bool {
        match self {
            Self::Fill { pool } => state.pools().get(pool).is_some_and(|pool| !pool.is_settled()),
            Self::Bind { .. } | Self::Mark { .. } | Self::Adopt { .. } | Self::Change { .. } => {
                false
            }
        }
    }

    /// Whether it is so.
    #[must_use]
    pub fn holds(&self, state: &ClusterState) -> bool {
        match self {
            Self::Change { .. } => false,
            Self::Fill { pool } => state.pools().get(pool).is_some_and(|pool| pool.filled),
            Self::Adopt { pool, born, .. } => {
                let pool = state.pools().get(pool);
                pool.is_some_and(|pool| pool.filled && pool.born == *born)
            }
            Self::Bind { pool, shard, store } => {
                let pool = state.pools().get(pool);
                pool.is_some_and(|pool| pool.store(shard).store == Some(*store))
            }
            Self::Mark { pool, shard, store, mark } => {
                state.pools().get(pool).is_some_and(|pool| {
                    let state = pool.store(shard);
                    let is_so = match mark {
                        StoreMark::CatchingUp => state.catching_up,
                        StoreMark::CaughtUp | StoreMark::Filled => {
                            !state.catching_up && !state.fresh
                        }
                    };
                    state.store == Some(*store) && is_so
                })
            }
        }
    }
}

/// Why it is not agreed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WishError {
    /// Too many wait already, or nobody drains the queue any more.
    #[error("too much waits to be agreed: try again")]
    Busy,
    /// It may not be.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nobody could be asked, or nobody knows what came of it: ask again.
    #[error("{0}")]
    Unavailable(String),
}

/// A wish, and where its answer goes.
pub type Asked = (Wish, oneshot::Sender<Result<(), WishError>>);

/// Where wishes are brought. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Wishes {
    queue: mpsc::Sender<Asked>,
}

impl Wishes {
    /// A queue, and its other end.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Asked>) {
        let (queue, asked) = mpsc::channel(WISHES_MAX);
        (Self { queue }, asked)
    }

    /// Brings a wish. Waits until it is agreed and this node has applied it; what requests read
    /// follows at once, but perhaps a moment later. Who does not wait loses nothing but the answer.
    ///
    /// # Errors
    /// [`WishError`].
    pub async fn ask(&self, wish: Wish) -> Result<(), WishError> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send((wish, answer)).map_err(|_| WishError::Busy)?;
        answered.await.unwrap_or(Err(WishError::Busy))
    }
}
