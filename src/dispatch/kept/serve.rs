//! How does a value reach the client?
//!
//! From one replica that has that very version and, if it breaks in the middle, from the next one,
//! beginning with the byte that is missing. The client sees one answer of one version, or a cut.
//!
//! What a replica gave before it broke off may have been spoilt, and nobody may be left to say so: a
//! whole value is therefore gone on with under a [`Proof`], and its last piece is held back until
//! all of it has the digest of the version. A replica that says at once that it was damaged is
//! believed, which spares the others the rest; nothing rests on its word.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use super::super::outcome::{Failure, KeptFailure, Note, TryError};
use super::super::proof::Proof;
use super::super::relay::Relay;
use super::super::seam::{About, Answer};
use super::super::trace::Round;
use super::super::view::Pool;
use super::super::worker::Worker;
use super::exchanges::Reply;
use super::job::Job;
use super::range::{Selected, range_counts};
use super::request::{Act, KeptRequest};
use crate::drivers::native::{Fetch, Got, Held, Replica, Value};
use crate::ids::digits::{Text, write_number};
use crate::level::Level;
use crate::net::http1::framing::Framing;
use crate::net::http1::head::write_field;
use crate::net::timers::Timer;
use crate::net::wire::Pace;
use crate::version::Version;

/// How long a replica whose body broke off is asked why.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What became of a request, as the answer tells it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Achieved {
    pub(super) level: Level,
    pub(super) acks: usize,
    pub(super) replicas: usize,
    pub(super) epoch: u64,
}

impl Achieved {
    pub(super) fn of(pool: &Pool, level: Level, acks: usize, replicas: usize) -> Self {
        Self { level, acks, replicas, epoch: pool.agreed.epoch.0 }
    }

    /// As it stands in `Ringway-Consistency`.
    pub(super) fn text(&self) -> Text<96> {
        let text = Text::default().with(self.level.as_str());
        let text = text.with(";acks=").number(self.acks as u64);
        let text = text.with(";replicas=").number(self.replicas as u64);
        text.with(";epoch=").number(self.epoch)
    }
}

/// One answer to a client, and where it comes from.
pub(super) struct Serving<'a> {
    pub(super) worker: &'a Worker,
    pub(super) timer: &'a Timer,
    pub(super) job: &'a Rc<Job>,
    pub(super) request: &'a KeptRequest<'a>,
    pub(super) achieved: Achieved,
}

/// The value was overwritten where it was to be had; nothing has reached the client.
pub(super) struct Overwritten;

impl Serving<'_> {
    /// Writes the head of an answer of ours: status, the kept fields, and what is known of the
    /// version. Gives the framing that was told.
    pub(super) fn head<A: Answer>(
        &self,
        answer: &mut A,
        status: u16,
        value: Option<&Value>,
        version: Option<Version>,
        shard: Option<&str>,
        (length, part): (Option<u64>, Option<(u64, u64)>),
    ) {
        let mut text = self.worker.buffers.text();
        text.extend_from_slice(b"HTTP/1.1 ");
        write_number(&mut text, u64::from(status));
        text.push(b' ');
        let code = http::StatusCode::from_u16(status).expect("a status of ours");
        text.extend_from_slice(code.canonical_reason().unwrap_or_default().as_bytes());
        text.extend_from_slice(b"\r\n");
        let told = version.map(Version::text);
        let told = told.as_ref().map(Text::as_str);
        if let Some(value) = value {
            text.extend_from_slice(&value.kept);
            if let Some(modified) = http_date(value.modified_ms) {
                write_field(&mut text, b"Last-Modified", modified.as_bytes());
            }
            write_field(&mut text, b"Accept-Ranges", b"bytes");
        }
        // What was deleted has no tag.
        if let Some(told) = told.filter(|_| self.request.act != Act::Delete) {
            for part in ["ETag: \"", told, "\"\r\n"] {
                text.extend_from_slice(part.as_bytes());
            }
        }
        if let (Some(value), Some((first, length))) = (value, part) {
            let (last, size) = (first + length - 1, value.size);
            let range = format!("bytes {first}-{last}/{size}");
            write_field(&mut text, b"Content-Range", range.as_bytes());
        }
        if let Some(length) = length {
            text.extend_from_slice(b"Content-Length: ");
            write_number(&mut text, length);
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"\r\n");
        let head_asked = self.request.act == Act::Head;
        let mut head = self.worker.buffers.head();
        head.parse(&text, head_asked).expect("what a store keeps are good fields");
        let consistency = self.achieved.text();
        let fields = [
            ("Ringway-Consistency", consistency.as_str()),
            ("Ringway-Version", told.unwrap_or_default()),
        ];
        let fields = &fields[..1 + usize::from(told.is_some())];
        let epoch = self.job.pool().agreed.epoch;
        let about = About { shard, epoch, fields };
        answer.head(&head, &text, head.framing(), &about, true);
        self.worker.buffers.keep_head(head);
    }

    /// Answers without content.
    pub(super) async fn empty<A: Answer>(
        &self,
        answer: &mut A,
        status: u16,
        value: Option<&Value>,
        version: Option<Version>,
    ) -> Result<(), Failure> {
        let length = (status != 304 && status != 204).then_some(0);
        self.head(answer, status, value, version, None, (length, None));
        answer.end(b"").await.map_err(|_| Failure::ClientGone)
    }

    /// Answers with the value, or the part of it that is wanted. `order` has the places of the
    /// replicas that may have it, the best first; `fetch` is one that has begun to come from the
    /// first of them.
    ///
    /// # Errors
    /// [`Failure`]; nothing of the answer has reached the client but with
    /// [`Failure::AnswerBroke`] and [`Failure::ClientGone`].
    pub(super) async fn value<A: Answer>(
        &self,
        value: &Value,
        order: &[usize],
        mut fetch: Option<Box<Fetch>>,
        answer: &mut A,
        note: &mut Note,
    ) -> Result<Result<(), Overwritten>, Failure> {
        let size = value.size;
        let wanted = self.request.range.filter(|_| self.request.act == Act::Get);
        let wanted = wanted.filter(|_| range_counts(self.request.if_range, value));
        let (status, first, length) = match wanted.map_or(Selected::Whole, |range| range.of(size)) {
            Selected::Whole => (200, 0, size),
            Selected::Part { first, length } => (206, first, length),
            Selected::Outside => return Err(Failure::Kept(KeptFailure::OutsideRange(size))),
        };
        let part = (status == 206).then_some((first, length));
        let version = Some(value.version);
        if self.request.act == Act::Head || length == 0 {
            let pool = self.job.pool();
            let shard = order.first().map(|place| self.job.shard(&pool, *place));
            let shard = shard.map(|at| pool.shards[at].id.as_str());
            self.head(answer, status, Some(value), version, shard, (Some(length), part));
            return answer.end(b"").await.map(Ok).map_err(|_| Failure::ClientGone);
        }
        let (mut sent, mut is_headed, mut is_overwritten) = (0, false, false);
        // With one place nobody goes on, and the replica answers for all that it gave.
        let mut proof = (part.is_none() && order.len() > 1).then(Proof::default);
        for place in order.iter().copied() {
            let pool = self.job.pool();
            let shard = self.job.shard(&pool, place);
            note.attempts += 1;
            note.shard = Some(shard);
            if sent > 0
                && let Some(proof) = &mut proof
                && !proof.go_on(value.digest.as_deref())
            {
                break;
            }
            let came = match fetch.take() {
                Some(fetch) => Ok(Got::Value(fetch)),
                None => {
                    let range =
                        (sent > 0 || part.is_some()).then(|| (first + sent, first + length - 1));
                    self.ask(place, range, value.version).await
                }
            };
            let fetch = match came {
                Ok(Got::Value(fetch))
                    if fetch.length == length - sent && fetch.value.version == value.version =>
                {
                    fetch
                }
                Ok(Got::Nothing(Held::Damaged(version))) => {
                    self.job.hint(self.worker.hints.as_ref(), place, version);
                    continue;
                }
                Ok(Got::Nothing(_) | Got::Other(_)) => {
                    is_overwritten = true;
                    continue;
                }
                Ok(_) | Err(_) => continue,
            };
            note.upstream_status = 200;
            if is_headed {
                pool.metrics.kept.continued.inc(self.job.stripe);
            } else {
                let shard = pool.shards[shard].id.as_str();
                let lengths = (Some(length), part);
                self.head(answer, status, Some(value), version, Some(shard), lengths);
                is_headed = true;
            }
            match self.pass(&pool, place, fetch, answer, (&mut sent, proof.as_mut())).await {
                Ok(()) => return Ok(Ok(())),
                Err(TryError::Client(_)) => return Err(Failure::ClientGone),
                Err(_) if proof.as_ref().is_some_and(Proof::is_refuted) => {
                    self.say_refuted(value.version);
                    return Err(Failure::AnswerBroke);
                }
                // What has reached the client is spoilt, or as good as: the rest is of no use.
                Err(_) if self.has_spoilt(place).await => return Err(Failure::AnswerBroke),
                // The next one may have the rest.
                Err(_) => {}
            }
        }
        if is_overwritten && !is_headed {
            return Ok(Err(Overwritten));
        }
        Err(if is_headed { Failure::AnswerBroke } else { Failure::Kept(KeptFailure::NoReplica) })
    }

    async fn ask(
        &self,
        place: usize,
        range: Option<(u64, u64)>,
        version: Version,
    ) -> Result<Got, crate::drivers::native::Fault> {
        let job = self.job;
        let call = async |replica: &Replica<'_>, timer: &Timer| {
            replica.get(&job.means, timer, (&job.key, job.token), range, Some(version)).await
        };
        job.ask(place, Round::Fetch, call).await
    }

    /// Some replica has spoilt bytes and did not say so, or could not. It finds them when it reads
    /// the value to its end the next time.
    fn say_refuted(&self, version: Version) {
        tracing::error!(
            pool = %self.job.pool().agreed.name,
            key = %String::from_utf8_lossy(&self.job.key),
            %version,
            "what several replicas gave of a value, one after the other, is not the value: the client \
             was cut off. One that broke off in its middle has spoilt bytes: look at the logs and \
             disks of the stores"
        );
    }

    /// Whether a replica whose body broke off says now that it was damaged. One that is gone says
    /// nothing, and it is not waited for: then it broke off for that.
    async fn has_spoilt(&self, place: usize) -> bool {
        let deadline_ms = self.timer.timers().after(LAST_WORDS);
        let looked = pin!(Rc::clone(self.job).look(place));
        match self.timer.limit(deadline_ms, looked).await {
            Some(Reply::Held(Ok(Held::Damaged(version)))) => {
                self.job.hint(self.worker.hints.as_ref(), place, version);
                true
            }
            _ => false,
        }
    }

    /// Passes what comes from one replica on; counts what of it has reached the client's side.
    async fn pass<A: Answer>(
        &self,
        pool: &Pool,
        place: usize,
        fetch: Box<Fetch>,
        answer: &mut A,
        (sent, proof): (&mut u64, Option<&mut Proof>),
    ) -> Result<(), TryError> {
        let length = fetch.length;
        let shard = &pool.shards[self.job.shard(pool, place)];
        let Some((upstream, buffer, is_persistent)) = fetch.into_parts() else {
            return Err(TryError::AnswerBroke);
        };
        let mut relay = Relay {
            worker: self.worker,
            timer: self.timer,
            pool,
            shard,
            wire: &upstream.wire,
            buffer,
            pace: Pace::idle(pool.settings.timeouts.idle),
            trailers_wanted: false,
            received: 0,
            proof,
        };
        let passed = relay.run(Framing::Length(length), answer).await;
        *sent += relay.received;
        let in_step = passed.is_ok() && relay.buffer.is_empty() && is_persistent;
        drop(relay);
        if in_step {
            let now_ms = self.timer.timers().now_ms();
            self.worker.upstreams.put_back(upstream, now_ms, &pool.keep);
        }
        passed
    }
}

/// A date as HTTP has it; none behind the year 9999.
fn http_date(unix_ms: u64) -> Option<String> {
    const END_S: u64 = 253_402_300_800;
    let seconds = unix_ms / 1000;
    let since = Duration::from_secs(seconds);
    let date = std::time::UNIX_EPOCH.checked_add(since).filter(|_| seconds < END_S)?;
    Some(httpdate::fmt_http_date(date))
}
