//! How long is a lease, and how far are clocks trusted?

/// What the lease rules are given. Agreed by the cluster, since holder and book must count alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseSettings {
    /// How long a lease lasts at most (rule 1). At least 4 times the largest election timeout, so
    /// that a change of leaders costs nobody the lease.
    pub lease_ms: u64,
    /// The longest lease that the cluster has ever agreed on; never less than `lease_ms`. A new
    /// leader waits for this one: a predecessor may have granted it before the lease was made
    /// shorter.
    pub lease_longest_ms: u64,
    /// How long reads at `one` go on without a lease (rule 5). They promise no order between nodes
    /// anyway; a minute bounds how old a ring they may follow.
    pub stale_reads_max_ms: u64,
    /// How long an operation may stay pinned to an epoch (rule 6), and so the longest that one slow
    /// shard can hold up a barrier.
    pub op_pin_max_ms: u64,
    /// How far a node's wall clock may be from the median of all reports (DESIGN, section 7).
    pub clock_skew_max_ms: u64,
}

impl Default for LeaseSettings {
    fn default() -> Self {
        Self {
            lease_ms: 10_000,
            lease_longest_ms: 10_000,
            stale_reads_max_ms: 60_000,
            op_pin_max_ms: 5_000,
            clock_skew_max_ms: 500,
        }
    }
}

impl LeaseSettings {
    /// How long the granter waits for a lease of `lease_ms` to be over for its holder: 10 % and
    /// 100 ms more.
    ///
    /// The tenth covers clocks that run at different rates; the 100 ms cover what rounding and a
    /// tenth of a slower clock leave over (a holder 5 % slow and a granter 5 % fast differ by
    /// 10.53 %, which the sum covers for leases of up to 18 s).
    #[must_use]
    pub fn with_margin(lease_ms: u64) -> u64 {
        lease_ms.saturating_add(lease_ms.div_ceil(10)).saturating_add(100)
    }

    /// How long a new leader must take every predecessor's lease for live (rule 4).
    #[must_use]
    pub fn predecessors_ms(&self) -> u64 {
        Self::with_margin(self.lease_longest_ms.max(self.lease_ms))
    }
}
