//! Which requests are recorded, and what is told of them?
//!
//! W3C Trace Context, sections 2 and 4. A request that brings a trace along is recorded if whoever
//! began the trace says so; one that brings none is recorded by chance, as often as the file says.
//! What becomes of its `traceparent` and `tracestate`:
//!
//! | the request's `traceparent` | recorded | not recorded |
//! |---|---|---|
//! | is well formed | the trace goes on below this node's spans; `tracestate` stays | both stay as they are |
//! | is not there | a trace begins; a `tracestate`, which means nothing, goes | both stay as they are |
//! | is malformed, or is there twice | the same | a trace begins that says so; `tracestate` goes |
//!
//! A recorded request has a span of its own and one for each try at a shard, whose request bears
//! that span's id, so that what the shard tells hangs below it. On a pool that keeps copies it has
//! one for each exchange with a replica, named by the round; native stores tell nothing themselves.
//! Where nothing is traced, all that
//! this costs is a look at whether it is, and both fields are like any other.
//!
//! What is told follows the OpenTelemetry semantic conventions for HTTP. The query is left out: it
//! is where secrets are.

use std::borrow::Cow;
use std::rc::Rc;

use super::client::Caller;
use super::exchange::{Exchange, HEALTH_PATH};
use super::seam::Reply;
use super::seen::{NO_FLAG, Seen};
use crate::background::spans::SpanSender;
use crate::dispatch::outcome::{KeptNote, Note};
use crate::dispatch::trace::{Round, Trace, Try};
use crate::level::Level;
use crate::net::http1::head::values;
use crate::net::http1::request::{RequestHead, Target};
use crate::trace::{
    Attribute, Context, Ids, Kind, Span, SpanId, TRACEPARENT_BYTES, TraceId, Value, traceparent,
};

/// One worker's part in tracing.
pub struct Tracer {
    sender: SpanSender,
    ids: [Ids; 2],
}

/// What this node does with the trace of a request, if it does not leave it alone.
pub(super) enum Part {
    /// It is recorded.
    Recorded(Recorded),
    /// What the request brought along was malformed; it goes on with this `traceparent`, which
    /// says that nothing is recorded.
    Restarted([u8; TRACEPARENT_BYTES]),
}

/// A request that is recorded.
pub(super) struct Recorded {
    pub(super) trace: Rc<Trace>,
    /// What caused it; `None` if the trace begins here, and `tracestate` means nothing.
    parent: Option<SpanId>,
    host: String,
}

const TRACEPARENT: &str = "traceparent";

impl Tracer {
    /// `seeds` make its ids, and must differ from those of all other workers.
    #[must_use]
    pub fn new(sender: SpanSender, seeds: [u64; 2]) -> Self {
        Self { sender, ids: seeds.map(Ids::new) }
    }

    /// Decides about a request. Of those that bring no trace along, `percent` are recorded. `None`:
    /// its trace is left alone.
    fn begin(&self, head: &RequestHead, whole: &[u8], percent: u8) -> Option<Part> {
        let mut given = values(whole, head.fields(), TRACEPARENT);
        // Two of them are malformed: nobody can say which is meant.
        let (context, malformed) = match (given.next(), given.next()) {
            (None, _) => (None, false),
            (Some(one), None) => (Context::parse(one), Context::parse(one).is_none()),
            (Some(_), Some(_)) => (None, true),
        };
        let [high, low] = &self.ids;
        let sampled = match &context {
            Some(context) => context.sampled,
            None => low.draw() % 100 < u64::from(percent),
        };
        if !sampled && !malformed {
            return None;
        }
        let begun = || TraceId::of_random(u128::from(high.draw()) << 64 | u128::from(low.draw()));
        let id = context.map_or_else(begun, |context| context.trace);
        let span = SpanId::of_random(low.draw());
        if !sampled {
            return Some(Part::Restarted(traceparent(id, span, false)));
        }
        Some(Part::Recorded(Recorded {
            trace: Rc::new(Trace::new(id, span, low.draw())),
            parent: context.map(|context| context.parent),
            host: lossy(head.host(whole)).into_owned(),
        }))
    }
}

impl Part {
    /// Whether a field of the request does not go on as it came.
    pub(super) fn replaces(&self, name: &[u8]) -> bool {
        let continues = matches!(self, Self::Recorded(Recorded { parent: Some(_), .. }));
        name.eq_ignore_ascii_case(TRACEPARENT.as_bytes())
            || (!continues && name.eq_ignore_ascii_case(b"tracestate"))
    }

    /// The field that goes on instead, if it is the same for all tries.
    pub(super) fn field(&self) -> Option<&[u8]> {
        match self {
            Self::Recorded(_) => None,
            Self::Restarted(field) => Some(field),
        }
    }

    /// Where the request's tries are noted.
    pub(super) fn trace(&self) -> Option<&Rc<Trace>> {
        match self {
            Self::Recorded(recorded) => Some(&recorded.trace),
            Self::Restarted(_) => None,
        }
    }
}

impl Recorded {
    fn server(
        &self,
        seen: &Seen<'_>,
        caller: Caller,
        status: u16,
        times: (u64, u64),
        more: Vec<Attribute>,
    ) -> Span {
        let mut attributes = common(seen);
        attributes.extend([
            ("url.path", text(seen.path)),
            ("url.scheme", caller.scheme().into()),
            ("client.address", caller.address.to_string().into()),
            ("network.protocol.version", version(seen.protocol).into()),
        ]);
        attributes.extend(authority(&self.host));
        attributes.extend(more);
        attributes.extend(answered(status, None, 500));
        Span {
            trace: self.trace.id,
            id: self.trace.span,
            parent: self.parent,
            kind: Kind::Server,
            name: name_of(seen.method).to_owned(),
            begun_micros: times.0,
            ended_micros: times.1,
            attributes,
            // Without a status the client went away, or was cut off.
            failed: status >= 500 || status == 0,
        }
    }

    /// An exchange with a replica. What the store was sent is another request than the client's, so
    /// that nothing of that is told here.
    fn replica(&self, seen: &Seen<'_>, note: &Note, (round, one): (Round, &Try), now: u64) -> Span {
        let mut attributes = pool(seen);
        attributes.push(("ringway.round", round.as_str().into()));
        if let Some(kept) = &note.kept {
            attributes.push(("ringway.level", kept.asked.as_str().into()));
        }
        if let Some(shard) = seen.pool.and_then(|pool| pool.shards.get(one.shard)) {
            attributes.push(("ringway.shard", shard.id.as_str().into()));
            attributes.push(("server.address", shard.url.host().into()));
            attributes.push(("server.port", shard.url.port().into()));
        }
        // The client has its answer, and the replica goes on.
        let (ended_micros, error) = one.end.map_or((now, None), |end| (end.micros, end.error));
        let outcome = if one.end.is_none() { "late" } else { one.outcome };
        if !outcome.is_empty() {
            attributes.push(("ringway.outcome", outcome.into()));
        }
        attributes.extend(error.map(|word| ("error.type", word.into())));
        Span {
            trace: self.trace.id,
            id: one.span,
            parent: Some(self.trace.span),
            kind: Kind::Client,
            name: round.as_str().to_owned(),
            begun_micros: one.begun_micros,
            ended_micros,
            attributes,
            failed: error.is_some(),
        }
    }

    fn client(&self, seen: &Seen<'_>, number: usize, one: &Try, now_micros: u64) -> Span {
        let mut attributes = common(seen);
        if let Some(shard) = seen.pool.and_then(|pool| pool.shards.get(one.shard)) {
            attributes.push(("ringway.shard", shard.id.as_str().into()));
            attributes.push(("url.full", format!("{}{}", shard.url, lossy(seen.path)).into()));
            attributes.push(("server.address", shard.url.host().into()));
            attributes.push(("server.port", shard.url.port().into()));
        }
        if number > 0 {
            attributes.push(("http.request.resend_count", (number as u64).into()));
        }
        let (ended_micros, error) =
            one.end.map_or((now_micros, None), |end| (end.micros, end.error));
        let status = one.status;
        attributes.extend(answered(status, error, 400));
        Span {
            trace: self.trace.id,
            id: one.span,
            parent: Some(self.trace.span),
            kind: Kind::Client,
            name: name_of(seen.method).to_owned(),
            begun_micros: one.begun_micros,
            ended_micros,
            attributes,
            failed: error.is_some() || status >= 400,
        }
    }
}

impl Exchange<'_> {
    /// Decides whether the request is recorded. What a balancer asks every second is not.
    pub(super) fn begin_trace(&self, tracer: &Tracer, head: &RequestHead, whole: &[u8]) {
        let is_health_check = match head.target() {
            Target::Path { path, .. } => path.of_bytes(whole) == HEALTH_PATH,
            Target::Asterisk | Target::Authority => false,
        };
        if !is_health_check && let Some(part) = tracer.begin(head, whole, self.site.trace_percent) {
            // Only here is it set, and this is called once.
            let _: Result<(), Box<Part>> = self.part.set(Box::new(part));
        }
    }

    /// Hands in the spans of a request whose answer has ended.
    pub(super) fn finish_trace<A: Reply>(
        &self,
        part: &Part,
        seen: &Seen<'_>,
        answer: &A,
        note: &Note,
    ) {
        let (Some(tracer), Part::Recorded(recorded)) = (&self.local.tracer, part) else { return };
        let timers = &self.local.worker.timers;
        let now = timers.now_micros();
        let mut more: Vec<Attribute> = vec![
            ("ringway.request_id", self.id().into()),
            ("ringway.attempts", note.attempts.into()),
        ];
        if seen.flag != NO_FLAG {
            more.push(("ringway.flags", seen.flag.into()));
        }
        if note.spilled {
            more.push(("ringway.spilled", true.into()));
        }
        if let Some(route) = seen.route {
            more.push(("ringway.route", self.site.route_name(route).into()));
        }
        if let Some(shard) = seen.shard(note) {
            more.push(("ringway.shard", shard.into()));
        }
        if let Some(kept) = &note.kept {
            more.push(("ringway.level", kept.asked.as_str().into()));
            more.push(("ringway.level_achieved", achieved(kept).into()));
            more.push(("ringway.acks", (kept.acks as u64).into()));
            more.push(("ringway.replicas", (kept.replicas as u64).into()));
            more.extend(
                kept.version.map(|version| ("ringway.version", version.to_string().into())),
            );
        }
        let times = (self.begun_micros, now);
        let mut spans = vec![recorded.server(seen, self.caller, answer.status(), times, more)];
        let tries = recorded.trace.tries();
        let tries = tries.iter().enumerate();
        spans.extend(tries.map(|(number, one)| match one.round {
            Some(round) => recorded.replica(seen, note, (round, one), now),
            None => recorded.client(seen, number, one, now),
        }));
        tracer.sender.send(self.local.worker.stripe, spans);
    }
}

/// What both kinds tell.
fn common(seen: &Seen<'_>) -> Vec<Attribute> {
    let name = name_of(seen.method);
    let mut all = vec![("http.request.method", if name == OTHER { "_OTHER" } else { name }.into())];
    if name == OTHER {
        all.push(("http.request.method_original", text(seen.method)));
    }
    all.extend(pool(seen));
    all
}

/// The pool that was meant.
fn pool(seen: &Seen<'_>) -> Vec<Attribute> {
    let Some(pool) = seen.pool else { return Vec::new() };
    vec![
        ("ringway.pool", pool.agreed.name.as_str().into()),
        ("ringway.epoch", pool.agreed.epoch.0.into()),
    ]
}

/// The level that was reached.
fn achieved(kept: &KeptNote) -> &'static str {
    kept.achieved.map_or("none", Level::as_str)
}

/// How it ended: the status, and the kind of error, if it is one: a word of ours, or a status from
/// `least` on.
fn answered(status: u16, error: Option<&str>, least: u16) -> Vec<Attribute> {
    let mut all = Vec::new();
    if status > 0 {
        all.push(("http.response.status_code", status.into()));
    }
    match error {
        Some(word) => all.push(("error.type", word.into())),
        None if status >= least => all.push(("error.type", status.to_string().into())),
        None => {}
    }
    all
}

/// The server that the client meant.
fn authority(host: &str) -> Vec<Attribute> {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port.parse::<u16>().ok()),
        _ => (host, None),
    };
    let mut all = Vec::new();
    if !name.is_empty() {
        all.push(("server.address", name.trim_matches(['[', ']']).into()));
    }
    all.extend(port.map(|port| ("server.port", port.into())));
    all
}

/// What a span with a method that nobody knows is called.
const OTHER: &str = "HTTP";

/// A span's name is one of few, so methods that a client made up have one together.
fn name_of(method: &[u8]) -> &'static str {
    const KNOWN: [&str; 10] = [
        "GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND",
    ];
    KNOWN.into_iter().find(|known| known.as_bytes() == method).unwrap_or(OTHER)
}

/// As the conventions have it: 1.0, 1.1, 2.
fn version(protocol: &str) -> &str {
    match protocol.trim_start_matches("HTTP/") {
        "2.0" => "2",
        version => version,
    }
}

/// The most of a path or a method that is told. They wait in a queue, which is to be of bounded size.
const TOLD_BYTES_MAX: usize = 1024;

fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(&bytes[..bytes.len().min(TOLD_BYTES_MAX)])
}

fn text(bytes: &[u8]) -> Value {
    lossy(bytes).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::super::seam::Version;
    use super::*;
    use crate::trace::Value;

    #[test]
    fn the_server_is_told_as_the_client_named_it() {
        for (host, name, port) in [
            ("a.example", Some("a.example"), None),
            ("a.example:81", Some("a.example"), Some(81)),
            ("[::1]:81", Some("::1"), Some(81)),
            ("[::1]", Some("::1"), None),
            ("", None, None),
        ] {
            let name = name.map(|name| ("server.address", Value::from(name)));
            let port = port.map(|port: u16| ("server.port", Value::from(port)));
            assert_eq!(authority(host), [name, port].into_iter().flatten().collect::<Vec<_>>());
        }
    }

    #[test]
    fn versions_are_those_of_the_conventions() {
        for (version, expected) in
            [(Version::Http10, "1.0"), (Version::Http11, "1.1"), (Version::Http2, "2")]
        {
            assert_eq!(super::version(version.name()), expected);
        }
    }

    #[test]
    fn names_are_few() {
        assert_eq!(name_of(b"GET"), "GET");
        assert_eq!(name_of(b"get"), OTHER);
        assert_eq!(name_of(b"BREW"), OTHER);
    }
}
