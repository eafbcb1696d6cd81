//! The loops: one renews this node's lease, one keeps the leader's desk.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::desk::{Desk, Leads};
use super::facts::{Facts, FactsSource};
use super::holder::{Holding, LeaseStatus};
use super::message::{Answer, OVERVIEW, RENEW, Report};
use super::metrics::Metrics;
use super::overview::Overview;
use crate::cluster::Topology;
use crate::cluster::lease::{Denial, NoLease, SharedLease};
use crate::control::clock::{Translation, boottime_ms};
use crate::control::group::{Call, Group, Leadership, ProposeError};
use crate::ids::{Epoch, NodeId, PoolName, Revision};
use crate::net::peer::PeerAnswer;

/// A lease is renewed so often within its length: with ten tries a lost message, a slow leader or
/// an election of two seconds costs nobody its lease (rule 1: about every second of ten).
const RENEWALS_PER_LEASE: u64 = 10;

/// However short leases are, a node asks no more often than this.
const RENEWAL_MIN: Duration = Duration::from_millis(100);

/// Renewals that wait for their answer at once; a further one replaces none and is not sent.
const WAITING_MAX: usize = 8;

/// How often the leader looks at its desk. It bounds how late a barrier or a verdict is.
const DESK_INTERVAL: Duration = Duration::from_millis(100);

/// How long the leader may take to answer what is not a lease.
const OVERVIEW_TIMEOUT: Duration = Duration::from_secs(2);

/// What a steward is given.
pub struct StewardParts {
    /// The node's part in the group.
    pub group: Group,
    /// How other nodes are reached.
    pub peers: Arc<dyn Call>,
    /// What the node serves by, and sees.
    pub facts: FactsSource,
    /// Where the threads that serve see the lease.
    pub lease: Arc<SharedLease>,
    /// What requests read, as it moves.
    pub published: watch::Receiver<Revision>,
    /// Says what requests read.
    pub topology: Box<dyn Fn() -> Arc<Topology> + Send + Sync>,
    /// The wall clock, in milliseconds since 1970.
    pub wall_ms: fn() -> u64,
}

/// Renews this node's lease, and keeps the desk while it leads. Clones are the same one.
#[derive(Clone)]
pub struct Steward {
    inner: Arc<Inner>,
}

struct Inner {
    parts: StewardParts,
    holding: Mutex<Holding>,
    desk: Mutex<Desk>,
    clocks: Mutex<Translation>,
    metrics: Metrics,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Steward {
    /// A steward that does nothing yet; see [`Self::run`].
    #[must_use]
    pub fn new(parts: StewardParts) -> Self {
        // Before the other clock, so that moments are told too early rather than too late.
        let now_ms = boottime_ms();
        let clocks = Translation::begin(Instant::now(), now_ms);
        let desk = Desk::new(&parts.group.state());
        let inner = Inner {
            parts,
            holding: Mutex::default(),
            desk: Mutex::new(desk),
            clocks: Mutex::new(clocks),
            metrics: Metrics::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Runs until dropped.
    pub async fn run(self) {
        let desk = self.clone();
        tokio::select! {
            biased;
            () = self.renew() => {}
            () = desk.lead() => {}
        }
    }

    /// Whether an operation on `pool`, pinned to `epoch`, may go on (rule 5).
    ///
    /// # Errors
    /// [`NoLease`].
    pub fn check(&self, pool: &PoolName, epoch: Epoch) -> Result<(), NoLease> {
        lock(&self.inner.holding).check(boottime_ms(), pool, epoch)
    }

    /// How this node's lease stands.
    #[must_use]
    pub fn lease(&self) -> LeaseStatus {
        lock(&self.inner.holding).status(boottime_ms())
    }

    /// What the leader knows of every node; `None` when nobody leads, or it does not answer.
    pub async fn overview(&self) -> Option<Overview> {
        let group = &self.inner.parts.group;
        let leader = match *group.leadership().borrow() {
            Leadership::Leader { .. } => return Some(self.own_overview()),
            Leadership::Follower { leader } => leader,
            Leadership::None => return None,
        };
        let answer = self.ask(leader, OVERVIEW, Bytes::new(), OVERVIEW_TIMEOUT).await.ok()?;
        serde_json::from_slice(&answer).ok()
    }

    fn own_overview(&self) -> Overview {
        let state = self.inner.parts.group.state();
        lock(&self.inner.desk).overview(boottime_ms(), &state)
    }

    /// Whether questions at this path are this room's.
    #[must_use]
    pub fn answers(path: &str) -> bool {
        matches!(path, RENEW | OVERVIEW)
    }

    /// Which node a renewal speaks for; none for what anybody may ask, and for what is none.
    #[must_use]
    pub fn sender(path: &str, body: &[u8]) -> Option<NodeId> {
        #[derive(serde::Deserialize)]
        struct Sender {
            renewal: Holder,
        }
        #[derive(serde::Deserialize)]
        struct Holder {
            node: NodeId,
        }
        let renews = path == RENEW;
        let sender: Option<Sender> = renews.then(|| serde_json::from_slice(body).ok())?;
        sender.map(|sender| sender.renewal.node)
    }

    /// Answers another node's question.
    #[must_use]
    pub fn answer(&self, path: &str, body: &[u8]) -> PeerAnswer {
        if path == OVERVIEW {
            return json(&self.own_overview());
        }
        match serde_json::from_slice::<Report>(body) {
            Ok(report) => json(&self.take_report(&report)),
            Err(error) => {
                let detail = format!("The renewal cannot be read: {error}.");
                PeerAnswer::problem(400, "bad-request", &detail)
            }
        }
    }

    /// The series of this room.
    #[must_use]
    pub fn export(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.inner.metrics.export(&self.lease())
    }

    async fn renew(&self) {
        let parts = &self.inner.parts;
        let mut published = parts.published.clone();
        let mut waiting = JoinSet::new();
        loop {
            if waiting.len() < WAITING_MAX
                && let Some((report, asked_at)) = self.next_report()
            {
                let steward = self.clone();
                waiting.spawn(async move { steward.renew_once(report, asked_at).await });
            }
            let interval = self.renewal_interval();
            // Who reports an epoch soon lets the others go on.
            let moved = async {
                if published.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            let rested = tokio::time::sleep(RENEWAL_MIN);
            tokio::select! {
                biased;
                () = async { rested.await; moved.await } => {}
                () = tokio::time::sleep(interval) => {}
            }
            while waiting.try_join_next().is_some() {}
        }
    }

    fn renewal_interval(&self) -> Duration {
        let lease_ms = self.inner.parts.group.state().settings().lease_ms;
        Duration::from_millis(lease_ms / RENEWALS_PER_LEASE).max(RENEWAL_MIN)
    }

    /// What is to be sent now, and when that was. `None` while no start of this node is agreed.
    fn next_report(&self) -> Option<(Report, Instant)> {
        let parts = &self.inner.parts;
        let member = parts.group.member()?;
        let now_ms = boottime_ms();
        let status = parts.group.status();
        if let Some(why) = status.storage_failed.or(status.stopped) {
            // Fenced: a node that cannot write its log is no witness of what is agreed.
            let mut holding = lock(&self.inner.holding);
            holding.surrender(now_ms, &why);
            holding.tell(&parts.lease);
            return None;
        }
        let incarnation = (*parts.group.incarnation().borrow())?;
        let facts = (parts.facts)();
        let state = parts.group.state();
        let start = (member.node, incarnation);
        parts.lease.set_op_pin_max_ms(state.settings().op_pin_max_ms);
        let renewal = {
            let mut holding = lock(&self.inner.holding);
            let renewal = holding.renew(now_ms, (parts.wall_ms)(), start, &facts, &state);
            holding.tell(&parts.lease);
            renewal
        };
        let facts = Facts { epochs: Default::default(), rings: Default::default(), ..facts };
        Some((Report { renewal, facts }, Instant::now()))
    }

    async fn renew_once(&self, report: Report, asked_at: Instant) {
        let group = &self.inner.parts.group;
        let answered = match *group.leadership().borrow() {
            Leadership::Leader { .. } => Ok(self.take_report(&report)),
            Leadership::Follower { leader } => Err(Some(leader)),
            Leadership::None => Err(None),
        };
        let answered = match answered {
            Ok(answer) => Ok(answer),
            Err(None) => Err("nobody leads that this node can hear".to_owned()),
            Err(Some(leader)) => {
                let body = serde_json::to_vec(&report).expect("reports of ours are JSON");
                let within = self.renewal_interval() * 2;
                let answer = self.ask(leader, RENEW, body.into(), within).await;
                answer.and_then(|body| {
                    serde_json::from_slice::<Answer>(&body).map_err(|error| error.to_string())
                })
            }
        };
        let mut holding = lock(&self.inner.holding);
        match answered {
            Ok(answer) => {
                self.inner.metrics.answered(&answer, asked_at.elapsed());
                if let Answer::Denied(denial) = &answer
                    && denial.revokes()
                {
                    tracing::error!(%denial, "this node's lease is taken from it");
                }
                if matches!(answer, Answer::Denied(Denial::Unknown)) {
                    group.doubt_membership();
                }
                holding.answered(boottime_ms(), &answer);
                holding.tell(&self.inner.parts.lease);
            }
            Err(why) => {
                self.inner.metrics.unanswered();
                holding.unanswered(why);
            }
        }
    }

    /// Takes another node's report, or this one's own.
    fn take_report(&self, report: &Report) -> Answer {
        let mut desk = lock(&self.inner.desk);
        let now_ms = self.look(&mut desk);
        let answer = desk.report(now_ms, report, &self.inner.parts.group.state());
        if let Answer::Denied(denial @ Denial::DigestMismatch { .. }) = &answer {
            let node = report.renewal.node;
            tracing::error!(%node, %denial, "two rings bear one epoch; one of the nodes is wrong");
        }
        answer
    }

    /// Brings the desk up to the present moment, and tells which that is.
    fn look(&self, desk: &mut Desk) -> u64 {
        let parts = &self.inner.parts;
        let now_ms = boottime_ms();
        let now = Instant::now();
        let mut clocks = lock(&self.inner.clocks);
        clocks.look(now, now_ms);
        // The state after the leadership: who leads by then has at least that state.
        let leadership = *parts.group.leadership().borrow();
        let leads = match leadership {
            Leadership::Leader { term, .. } => {
                let ago = parts.group.quorum_confirmed_ago();
                let sent = ago.and_then(|ago| now.checked_sub(ago));
                Some(Leads {
                    term,
                    is_ready: parts.group.first_entry_applied(term),
                    confirmed_ms: sent.and_then(|sent| clocks.of(sent)),
                })
            }
            Leadership::Follower { .. } | Leadership::None => None,
        };
        let state = parts.group.state();
        desk.look(now_ms, leads, &state, &(parts.topology)());
        now_ms
    }

    async fn lead(&self) {
        let group = &self.inner.parts.group;
        let mut ticks = tokio::time::interval(DESK_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (due, successor) = {
                let mut desk = lock(&self.inner.desk);
                let now_ms = self.look(&mut desk);
                let status = group.status();
                let successor =
                    status.node.and_then(|own| desk.successor(now_ms, own, &status.voters));
                (desk.due(now_ms, &group.state()), successor)
            };
            if let Some(successor) = successor {
                tracing::warn!(%successor, "this leader's wall clock is wrong: it hands over");
                if let Err(error) = group.transfer(successor).await {
                    tracing::warn!(%error, "it could not be handed over, and is tried again");
                }
                continue;
            }
            // At once: a slow one must not make the others old.
            let mut proposals = JoinSet::new();
            for command in due {
                let group = group.clone();
                proposals.spawn(async move { group.propose("steward", command).await });
            }
            while let Some(proposed) = proposals.join_next().await {
                match proposed {
                    Ok(Ok(_)) => {}
                    Ok(Err(ProposeError::Refused(refusal))) => {
                        tracing::info!(%refusal, "what the leader found due is no longer");
                    }
                    Ok(Err(error)) => tracing::debug!(%error, "what is due is proposed again"),
                    Err(error) => tracing::error!(%error, "a proposal panicked"),
                }
            }
        }
    }

    async fn ask(
        &self,
        node: NodeId,
        path: &'static str,
        body: Bytes,
        within: Duration,
    ) -> Result<Bytes, String> {
        let parts = &self.inner.parts;
        let address = parts
            .group
            .address_of(node)
            .ok_or_else(|| format!("the address of the leader, node {node}, is not known"))?;
        let answer = parts.peers.call(&address, path, body, within).await;
        let answer = answer.map_err(|unanswered| unanswered.to_string())?;
        match answer.status {
            200 => Ok(answer.body),
            status => Err(format!("{address} answered {status}: {}", detail(&answer.body))),
        }
    }
}

fn json(document: &impl serde::Serialize) -> PeerAnswer {
    PeerAnswer::ok(serde_json::to_vec(document).expect("messages of ours are JSON"))
}

/// The sentence of a problem document.
fn detail(body: &[u8]) -> String {
    let document: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let detail = document.as_ref().and_then(|document| document["detail"].as_str());
    detail.unwrap_or("no reason").to_owned()
}
