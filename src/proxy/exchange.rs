//! How is one request answered, counted and logged?

use std::borrow::Cow;
use std::str::from_utf8;

use tokio::io::{AsyncRead, AsyncWrite};

use super::access_log::Record;
use super::answer::ClientAnswer;
use super::body::RequestBody;
use super::client::Client;
use super::forward::{
    HeadFields, check_own_fields, class_of, destination_path, hops_left, is_repeatable,
    render_fields,
};
use super::problem::{Outcome, Problem, ProblemAbout};
use super::site::Site;
use crate::dispatch::outcome::{Failure, Note};
use crate::dispatch::run::run;
use crate::dispatch::seam::{Body, BodyError, ClientGone, Request};
use crate::dispatch::view::Pool;
use crate::drivers::http::{HostRule, Outbound};
use crate::ids::{Revision, Token};
use crate::key::{canonical_path, check_query};
use crate::net::buffer::ReadBuffer;
use crate::net::http1::framing::Framing;
use crate::net::http1::head::{FieldKind, Persistence};
use crate::net::http1::request::{RequestHead, Target};
use crate::protocol::health::Class;
use crate::route::{RequestView, RouteIx};

/// What becomes of the connection.
pub(super) enum Next {
    /// Another request may come; some of its bytes may be here already.
    Request(Option<ReadBuffer>),
    /// It ends, but the client may still be sending.
    Close,
    /// It ends at once.
    Cut,
    /// It ends at once, and the client is to see that the answer is not complete.
    Reset,
}

/// One request on one connection.
pub(super) struct Exchange<'a, S> {
    client: &'a Client<'a, S>,
    request_id: [u8; 16],
    begun_micros: u64,
    /// Whether this is the last request that the connection may carry.
    last: bool,
}

/// Where a request goes.
struct Routed<'a> {
    pool: &'a Pool,
    token: Token,
    destination: Option<(Token, Vec<u8>)>,
}

/// What is known of a request for its log line.
struct Seen<'a> {
    method: &'a [u8],
    path: &'a [u8],
    query: Option<&'a [u8]>,
    protocol: &'static str,
    route: Option<RouteIx>,
    pool: Option<&'a Pool>,
    flag: &'static str,
}

impl Seen<'_> {
    fn nothing() -> Self {
        let protocol = "-";
        Self {
            method: b"-",
            path: b"-",
            query: None,
            protocol,
            route: None,
            pool: None,
            flag: NO_FLAG,
        }
    }
}

/// What the log line says when all went well.
const NO_FLAG: &str = "-";

/// Methods that a cache pool forwards and that are worth naming in `Allow`.
const ALLOWED: &str = "GET, HEAD, PUT, POST, PATCH, DELETE, OPTIONS, PROPFIND, PROPPATCH, MKCOL, \
                       COPY, MOVE, LOCK, UNLOCK";

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Exchange<'a, S> {
    /// Number `served` on this connection, counted from 1.
    pub(super) fn begin(client: &'a Client<'a, S>, served: u32) -> Self {
        Self {
            client,
            request_id: client.local.request_id(),
            begun_micros: client.local.worker.timers.refresh(),
            last: served >= client.site.limits.requests_per_connection_max,
        }
    }

    fn id(&self) -> &str {
        from_utf8(&self.request_id).expect("hexadecimal digits")
    }

    /// Answers what could not be read as a request. The connection ends.
    pub(super) async fn refuse(&self, problem: &Problem) -> Next {
        let mut answer = ClientAnswer::new(self.client, &self.request_id, 1, false, false);
        let about = ProblemAbout { request_id: self.id(), ..ProblemAbout::default() };
        let told = answer.problem(problem, &about, false).await;
        let seen = Seen { flag: problem.flag, ..Seen::nothing() };
        self.finish(&seen, &answer, 0, &Note::default());
        if told.is_ok() { Next::Close } else { Next::Cut }
    }

    /// Answers a request. `buffer` holds its head, `length` bytes, and perhaps more.
    pub(super) async fn run(
        &self,
        head: &RequestHead,
        mut buffer: ReadBuffer,
        length: usize,
    ) -> Next {
        let local = self.client.local;
        let head_asked = head.method(&buffer.filled()[..length]) == b"HEAD";
        let keep_alive = head.persistence() == Persistence::KeepAlive && !self.last;
        let mut answer =
            ClientAnswer::new(self.client, &self.request_id, head.minor(), head_asked, keep_alive);
        let framing = head.framing();
        let has_body = framing != Framing::None;
        // With a body, what came behind the head moves to a buffer of its own, since the head is
        // looked at until the end; without one it stays where it is.
        let following = has_body.then(|| {
            let rest = &buffer.filled()[length..];
            let mut following = local.worker.buffers.small();
            // A head may be allowed to be so large that more lies behind it than a buffer takes.
            while following.capacity() < rest.len() {
                following.grow(usize::MAX);
            }
            following.room()[..rest.len()].copy_from_slice(rest);
            following.fill(rest.len());
            following
        });
        let mut body = RequestBody::new(self.client, following, framing, head.expects_continue());

        let whole = &buffer.filled()[..length];
        if self.answer(head, whole, &mut body, &mut answer).await.is_err() {
            let truncated = answer.has_begun() && answer.ends_with_connection();
            return if truncated { Next::Reset } else { Next::Cut };
        }
        if !answer.keeps_alive() || !body.is_complete() {
            // A client that asked for the end sends nothing more, so no reset can take its answer.
            // (But for old ones that send an empty line behind a body.)
            let client_ends = head.persistence() == Persistence::Close
                && !has_body
                && buffer.filled().len() == length;
            return if client_ends { Next::Cut } else { Next::Close };
        }
        match body.into_rest() {
            Some(following) => buffer = following,
            None => buffer.consume(length),
        }
        Next::Request(Some(buffer).filter(|buffer| !buffer.is_empty()))
    }

    /// Answers, counts and logs. An error means that the client's connection is of no more use.
    async fn answer(
        &self,
        head: &RequestHead,
        whole: &[u8],
        body: &mut RequestBody<'_, S>,
        answer: &mut ClientAnswer<'_, S>,
    ) -> Result<(), ClientGone> {
        let site = self.client.site;
        let mut seen = Seen {
            method: head.method(whole),
            protocol: if head.minor() == 0 { "HTTP/1.0" } else { "HTTP/1.1" },
            ..Seen::nothing()
        };
        let mut note = Note::default();
        let done = match head.target() {
            Target::Asterisk => {
                seen.path = b"*";
                answer.plain(204, &[("Allow", ALLOWED)], body.is_complete()).await
            }
            Target::Authority => {
                let problem = Problem::method(ALLOWED.to_owned());
                self.tell(&problem, &mut seen, &note, body, answer).await
            }
            Target::Path { path, query } => {
                let path = match path.of_bytes(whole) {
                    b"" => b"/",
                    path => path,
                };
                seen.path = path;
                seen.query = query.map(|query| query.of_bytes(whole));
                match canonical(path, seen.query) {
                    Err(problem) => self.tell(&problem, &mut seen, &note, body, answer).await,
                    Ok(path) => {
                        // The canonical path lives only here, so what looks at it ends here.
                        let mut seen = Seen { path: &path, ..seen };
                        let done = self
                            .answer_path(head, whole, site, &mut seen, &mut note, body, answer)
                            .await;
                        self.finish(&seen, answer, body.received(), &note);
                        return done;
                    }
                }
            }
        };
        self.finish(&seen, answer, body.received(), &note);
        done
    }

    #[allow(clippy::too_many_arguments, reason = "both directions, and what is remembered")]
    async fn answer_path<'s>(
        &self,
        head: &RequestHead,
        whole: &'s [u8],
        site: &'s Site,
        seen: &mut Seen<'s>,
        note: &mut Note,
        body: &mut RequestBody<'_, S>,
        answer: &mut ClientAnswer<'_, S>,
    ) -> Result<(), ClientGone> {
        if seen.path == b"/_ringway/health" && matches!(seen.method, b"GET" | b"HEAD") {
            // A balancer that asks here is to turn away before the port closes.
            let status = if self.client.local.worker.draining.get() { 503 } else { 200 };
            return answer.plain(status, &[], body.is_complete()).await;
        }
        if hops_left(head, whole) == Some(0) {
            return answer.plain(204, &[("Allow", ALLOWED)], body.is_complete()).await;
        }
        let routed = match route(head, whole, site, seen) {
            Ok(routed) => routed,
            Err(problem) => return self.tell(&problem, seen, note, body, answer).await,
        };
        let mut fields = self.client.local.worker.buffers.text();
        let rewrites = routed.pool.settings.host == HostRule::Shard;
        let destination = routed.destination.as_ref().filter(|_| rewrites);
        let address = self.client.address;
        render_fields(&mut fields, head, whole, site, address, destination.is_none());
        let framing = head.framing();
        let held_body_bytes_max = site.limits.replay_body_bytes_max as u64;
        let streams = match framing {
            Framing::None => false,
            Framing::Length(length) => length > held_body_bytes_max,
            Framing::Chunked | Framing::UntilClose => true,
        };
        let request = Request {
            outbound: Outbound {
                method: seen.method,
                path: seen.path,
                query: seen.query,
                client_host: head.host(whole),
                fields: &fields,
                destination: destination.map(|(_, path)| path.as_slice()),
                framing,
                // A body that is held was asked for by us.
                expect_continue: streams && head.expects_continue(),
                wants_trailers: head.wants_trailers() && head.minor() > 0,
            },
            token: routed.token,
            class: class_of(seen.method),
            repeatable: is_repeatable(seen.method, whole, head.fields()),
            head_asked: seen.method == b"HEAD",
            interim_wanted: head.minor() > 0,
            held_body_bytes_max,
            destination: routed.destination.as_ref().map(|(token, _)| *token),
        };
        let client = self.client;
        let worker = &client.local.worker;
        let done = run(worker, client.timer, routed.pool, &request, body, answer, note).await;
        match done {
            Ok(()) => Ok(()),
            Err(failure) => self.fail(&failure, request.class, seen, note, body, answer).await,
        }
    }

    /// Tells the client of a failure, if it can still be told.
    async fn fail(
        &self,
        failure: &Failure,
        class: Class,
        seen: &mut Seen<'_>,
        note: &Note,
        body: &RequestBody<'_, S>,
        answer: &mut ClientAnswer<'_, S>,
    ) -> Result<(), ClientGone> {
        let metrics = &self.client.local.metrics;
        let stripe = self.client.local.worker.stripe;
        match failure {
            Failure::Body(BodyError::TooSlow) => metrics.too_slow.inc(stripe),
            Failure::ClientGone if answer.was_too_slow() => metrics.too_slow.inc(stripe),
            Failure::Body(BodyError::Gone) | Failure::ClientGone => metrics.client_gone.inc(stripe),
            Failure::Body(BodyError::Malformed(_)) => metrics.protocol_error.inc(stripe),
            Failure::AnswerBroke => metrics.answer_cut.inc(stripe),
            _ => {}
        }
        if answer.has_begun() {
            // The answer cannot be taken back, only cut, so that nobody takes a part for the whole.
            seen.flag = match failure {
                Failure::ClientGone if answer.was_too_slow() => "SI",
                Failure::ClientGone | Failure::Body(_) => "DC",
                Failure::RequestTimeout => "DT",
                _ => "UC",
            };
            return Err(ClientGone::cut());
        }
        let problem = match failure {
            // Its head had come, but no byte of it had gone on.
            Failure::AnswerBroke => Problem::of_failure(&Failure::Reset, class),
            failure => Problem::of_failure(failure, class),
        };
        let Some(mut problem) = problem else {
            seen.flag = "DC";
            return Err(ClientGone::cut());
        };
        if note.attempts == 0 && problem.outcome.is_some() {
            problem.outcome = Some(Outcome::NotApplied);
        }
        self.tell(&problem, seen, note, body, answer).await
    }

    /// Answers with a problem.
    async fn tell(
        &self,
        problem: &Problem,
        seen: &mut Seen<'_>,
        note: &Note,
        body: &RequestBody<'_, S>,
        answer: &mut ClientAnswer<'_, S>,
    ) -> Result<(), ClientGone> {
        seen.flag = problem.flag;
        let (metrics, stripe) = (&self.client.local.metrics, self.client.local.worker.stripe);
        if problem.flag == "NR" && seen.route.is_none() {
            metrics.no_route.inc(stripe);
        }
        if problem.flag == "NC" {
            metrics.no_pool.inc(stripe);
        }
        if problem.status == 413 {
            metrics.too_large.inc(stripe);
        }
        let about = ProblemAbout {
            pool: seen.route.map(|route| self.client.site.routes.route(route).pool.as_str()),
            shard: shard_name(seen, note),
            epoch: seen.pool.map(|pool| pool.agreed.epoch.0),
            request_id: self.id(),
        };
        answer.problem(problem, &about, body.is_complete()).await
    }

    /// Counts and logs a request whose answer has ended, well or not.
    fn finish(&self, seen: &Seen<'_>, answer: &ClientAnswer<'_, S>, received: u64, note: &Note) {
        let (local, site) = (self.client.local, self.client.site);
        let micros = local.worker.timers.now_micros().saturating_sub(self.begun_micros);
        let status = answer.status();
        let metrics = match seen.route {
            Some(route) => &site.route_metrics[usize::from(route.0)],
            None => &local.metrics.unrouted,
        };
        metrics.ended(local.worker.stripe, status, micros, received, answer.sent());
        let Some(format) = site.log else { return };
        local.log(|unix_ms, out| {
            let target = match seen.query {
                Some(query) => [seen.path, b"?", query].concat(),
                None => seen.path.to_vec(),
            };
            let flags = match note.retries_exhausted && seen.flag != "URX" {
                true => format!("{},URX", seen.flag),
                false => seen.flag.to_owned(),
            };
            #[allow(clippy::cast_precision_loss, reason = "durations are far below 2^53 us")]
            let duration_ms = micros as f64 / 1000.0;
            let record = Record {
                unix_ms,
                client: self.client.address,
                method: &String::from_utf8_lossy(seen.method),
                target: &String::from_utf8_lossy(&target),
                protocol: seen.protocol,
                status,
                bytes_in: received,
                bytes_out: answer.sent(),
                duration_ms,
                route: seen.route.map_or("", |route| site.route_name(route)),
                pool: seen.route.map_or("", |route| site.routes.route(route).pool.as_str()),
                shard: shard_name(seen, note).unwrap_or(""),
                upstream_status: note.upstream_status,
                attempts: note.attempts,
                spilled: note.spilled,
                flags: &flags,
                request_id: self.id(),
            };
            record.write(format, out);
        });
    }
}

/// The value of `Destination`, if there is one.
fn only_destination<'a>(head: &RequestHead, whole: &'a [u8]) -> Result<Option<&'a [u8]>, Problem> {
    let mut all = head.fields().iter().filter(|field| field.kind == FieldKind::Destination);
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(field), None) => Ok(Some(field.value.of_bytes(whole))),
        (Some(_), Some(_)) => Err(Problem::bad_destination()),
    }
}

/// The name of the shard asked last.
fn shard_name<'s>(seen: &Seen<'s>, note: &Note) -> Option<&'s str> {
    Some(seen.pool?.shards[note.shard?].id.as_str())
}

fn canonical<'a>(path: &'a [u8], query: Option<&[u8]>) -> Result<Cow<'a, [u8]>, Problem> {
    let checked = query.map_or(Ok(()), check_query);
    checked.and_then(|()| canonical_path(path)).map_err(|error| Problem::of_key(&error))
}

/// Finds the request's route, pool and key. What is found on the way is noted in `seen`.
fn route<'s>(
    head: &RequestHead,
    whole: &[u8],
    site: &'s Site,
    seen: &mut Seen<'s>,
) -> Result<Routed<'s>, Problem> {
    if seen.path == b"/_ringway" || seen.path.starts_with(b"/_ringway/") {
        return Err(Problem::reserved_path());
    }
    // TRACE would tell the client what was added to its request (RFC 9110, section 9.3.8).
    if seen.method == b"TRACE" {
        return Err(Problem::method(ALLOWED.to_owned()));
    }
    check_own_fields(head, whole)?;
    if let (Framing::Length(length), Some(max)) = (head.framing(), site.limits.body_bytes_max)
        && length > max
    {
        return Err(Problem::announced_body_too_large());
    }
    let host = lower_case(without_port(head.host(whole)));
    let fields = HeadFields { whole, fields: head.fields() };
    let view = RequestView {
        method: seen.method,
        host: &host,
        path: seen.path,
        query: seen.query,
        fields: &fields,
    };
    let route = site.routes.find(&view).ok_or_else(Problem::no_route)?;
    (seen.route, seen.pool) = (Some(route), site.pool_of(route));
    let spec = site.routes.route(route);
    let allowed = &spec.allowed_methods;
    if !allowed.contains(seen.method) {
        return Err(Problem::method(allowed.iter().collect::<Vec<_>>().join(", ")));
    }
    let Some(pool) = seen.pool else {
        return Err(match site.view.topology.revision() {
            Revision(0) => Problem::no_topology(),
            _ => Problem::no_pool(spec.pool.as_str()),
        });
    };
    let token_of = |view: &RequestView<'_>| {
        let mut scratch = Vec::new();
        let key = site.routes.key_of(route, view, &mut scratch);
        key.map(|key| pool.agreed.ring.token(key)).map_err(|error| Problem::of_route_key(&error))
    };
    let token = token_of(&view)?;
    let mut destination = None;
    if matches!(seen.method, b"COPY" | b"MOVE")
        && let Some(value) = only_destination(head, whole)?
    {
        let path = destination_path(value, head.host(whole))?;
        // What another route would take lies in another pool, or under another key.
        let there = RequestView { path: &path, query: None, ..view };
        if site.routes.find(&there) != Some(route) {
            return Err(Problem::bad_destination());
        }
        destination = Some((token_of(&there)?, path));
    }
    Ok(Routed { pool, token, destination })
}

/// Host names do not differ by case (RFC 3986, section 3.2.2); nearly all come in lower case.
fn lower_case(host: &[u8]) -> Cow<'_, [u8]> {
    match host.iter().any(u8::is_ascii_uppercase) {
        true => Cow::Owned(host.to_ascii_lowercase()),
        false => Cow::Borrowed(host),
    }
}

/// A host without its port; an IPv6 address keeps its brackets.
fn without_port(host: &[u8]) -> &[u8] {
    match memchr::memrchr(b':', host) {
        Some(at) if !host[at..].contains(&b']') => &host[..at],
        _ => host,
    }
}
