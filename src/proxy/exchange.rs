//! How is one request answered, counted and logged?
//!
//! Here a request has a judged head, a body and an answer, and no protocol: the connection that it
//! came on made them, and goes on with what is left of them.

use std::cell::OnceCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::str::from_utf8;
use std::task::Poll;

use super::client::{Caller, Local};
use super::forward::{Hop, Keep, asking_client, class_of, hops_left, is_repeatable, render_fields};
use super::listing::LIST_PATH;
use super::problem::{Outcome, Problem, ProblemAbout};
use super::routing::{ALLOWED, canonical, route};
use super::seam::{Reply, Upload, Watch};
use super::seen::Seen;
use super::site::Site;
use super::traces::Part;
use crate::dispatch::outcome::{Failure, Note};
use crate::dispatch::run::run;
use crate::dispatch::seam::{BodyError, ClientGone, Request};
use crate::drivers::http::{HostRule, Outbound};
use crate::net::http1::framing::Framing;
use crate::net::http1::request::{RequestHead, Target};
use crate::net::timers::Timer;
use crate::protocol::health::Class;

/// One request of one client.
pub(super) struct Exchange<'a> {
    pub(super) local: &'a Local,
    pub(super) site: &'a Site,
    /// Of the task that serves the request.
    pub(super) timer: &'a Timer,
    /// Who asks.
    pub(super) caller: Caller,
    pub(super) request_id: [u8; 16],
    pub(super) begun_micros: u64,
    /// What is done with its trace; empty if that is left alone.
    pub(super) part: OnceCell<Box<Part>>,
}

/// Where a balancer asks whether to send clients here.
pub(super) const HEALTH_PATH: &[u8] = b"/_ringway/health";

impl<'a> Exchange<'a> {
    /// At the first byte of a request.
    pub(super) fn begin(
        local: &'a Local,
        site: &'a Site,
        timer: &'a Timer,
        caller: Caller,
    ) -> Self {
        let request_id = local.request_id();
        let begun_micros = local.worker.timers.refresh();
        Self { local, site, timer, caller, request_id, begun_micros, part: OnceCell::new() }
    }

    pub(super) fn id(&self) -> &str {
        from_utf8(&self.request_id).expect("hexadecimal digits")
    }

    /// Answers what could not be read as a request; nothing of its body will be read.
    ///
    /// # Errors
    /// The client cannot be told.
    pub(super) async fn refuse<A: Reply>(
        &self,
        problem: &Problem,
        answer: &mut A,
    ) -> Result<(), ClientGone> {
        let about = ProblemAbout { request_id: self.id(), ..ProblemAbout::default() };
        let told = answer.problem(problem, &about, false).await;
        let seen = Seen { flag: problem.flag, ..Seen::nothing() };
        self.finish(&seen, answer, 0, &Note::default());
        told
    }

    /// Answers, counts and logs a request whose head is `whole`.
    ///
    /// # Errors
    /// What was sent cannot be completed: whatever carries the answer is of no more use.
    pub(super) async fn answer<B: Upload, A: Reply>(
        &self,
        head: &RequestHead,
        whole: &[u8],
        body: &mut B,
        answer: &mut A,
    ) -> Result<(), ClientGone> {
        if let Some(tracer) = &self.local.tracer {
            self.begin_trace(tracer, head, whole);
        }
        let site = self.site;
        let mut seen = Seen {
            method: head.method(whole),
            protocol: answer.version().name(),
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
    async fn answer_path<'s, B: Upload, A: Reply>(
        &self,
        head: &RequestHead,
        whole: &'s [u8],
        site: &'s Site,
        seen: &mut Seen<'s>,
        note: &mut Note,
        body: &mut B,
        answer: &mut A,
    ) -> Result<(), ClientGone> {
        if seen.path == HEALTH_PATH && matches!(seen.method, b"GET" | b"HEAD") {
            // A balancer that asks here is to turn away before the port closes.
            let status = if self.local.worker.draining.get() { 503 } else { 200 };
            return answer.plain(status, &[], body.is_complete()).await;
        }
        if seen.path == LIST_PATH && matches!(seen.method, b"GET" | b"HEAD") {
            return Box::pin(self.answer_list(site, seen, note, body, answer)).await;
        }
        if hops_left(head, whole) == Some(0) {
            return answer.plain(204, &[("Allow", ALLOWED)], body.is_complete()).await;
        }
        let routed = match route(head, whole, site, seen) {
            Ok(routed) => routed,
            Err(problem) => return self.tell(&problem, seen, note, body, answer).await,
        };
        if let Err(problem) = self.check_rate(head, whole, seen) {
            return self.tell(&problem, seen, note, body, answer).await;
        }
        if let Some(kept) = &routed.pool.agreed.spec.kept {
            // Boxed: what a cache pool's requests do not need, they do not carry.
            let kept = self.answer_kept(head, whole, &routed, kept, seen, note, body, answer);
            return Box::pin(kept).await;
        }
        let mut fields = self.local.worker.buffers.text();
        let rewrites = routed.pool.settings.host == HostRule::Shard;
        let destination = routed.destination.as_ref().filter(|_| rewrites);
        let part = self.part.get().map(|part| &**part);
        let hop = Hop { caller: self.caller, version: answer.version(), part };
        let keep = Keep { destination: destination.is_none(), condition: !rewrites };
        let condition = match render_fields(&mut fields, head, whole, site, &hop, keep) {
            Ok(condition) => condition,
            Err(problem) => return self.tell(&problem, seen, note, body, answer).await,
        };
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
                condition,
                framing,
                // A body that is held was asked for by us.
                expect_continue: streams && head.expects_continue(),
                wants_trailers: head.wants_trailers() && hop.version.has_extras(),
                traceparent: part.and_then(Part::field),
            },
            token: routed.token,
            class: class_of(seen.method),
            repeatable: is_repeatable(seen.method, whole, head.fields()),
            head_asked: seen.method == b"HEAD",
            interim_wanted: hop.version.has_extras(),
            held_body_bytes_max,
            destination: routed.destination.as_ref().map(|(token, _)| *token),
            trace: part.and_then(Part::trace).map(Rc::as_ref),
        };
        let worker = &self.local.worker;
        let watch = answer.watch();
        let done = {
            let run = run(worker, self.timer, routed.pool, &request, body, answer, note);
            let mut run = pin!(run);
            poll_fn(|cx| match run.as_mut().poll(cx) {
                Poll::Pending => watch.poll_gone(cx).map(|()| Err(Failure::ClientGone)),
                done => done,
            })
            .await
        };
        match done {
            Ok(()) => Ok(()),
            Err(failure) => self.fail(&failure, request.class, seen, note, body, answer).await,
        }
    }

    /// Counts the request against what its route takes of one client.
    fn check_rate(&self, head: &RequestHead, whole: &[u8], seen: &Seen<'_>) -> Result<(), Problem> {
        let Some(route) = seen.route else { return Ok(()) };
        let Some((rates, limit)) = self.site.limit_of(route) else { return Ok(()) };
        let client = asking_client(head, whole, self.site, self.caller);
        rates.take(limit, client, self.local.worker.timers.now_micros()).map_err(|too_many| {
            let metrics = &self.site.route_metrics[usize::from(route.0)];
            metrics.rate_limited.inc(self.local.worker.stripe);
            Problem::rate_limited(too_many.wait_micros)
        })
    }

    /// Tells the client of a failure, if it can still be told.
    pub(super) async fn fail<B: Upload, A: Reply>(
        &self,
        failure: &Failure,
        class: Class,
        seen: &mut Seen<'_>,
        note: &Note,
        body: &B,
        answer: &mut A,
    ) -> Result<(), ClientGone> {
        let metrics = &self.local.metrics;
        let stripe = self.local.worker.stripe;
        match failure {
            Failure::Body(BodyError::TooSlow) => metrics.too_slow.inc(stripe),
            Failure::ClientGone if answer.was_too_slow() => metrics.too_slow.inc(stripe),
            Failure::Body(BodyError::Gone) | Failure::ClientGone => metrics.client_gone.inc(stripe),
            Failure::Body(BodyError::Malformed(_)) => metrics.protocol_error.inc(stripe),
            Failure::AnswerBroke if answer.has_begun() => metrics.answer_cut.inc(stripe),
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
        if let Some(away) = &note.away {
            problem.detail = format!("{}. Away: {away}", problem.detail);
        }
        if note.attempts == 0 && problem.outcome.is_some() {
            problem.outcome = Some(Outcome::NotApplied);
        }
        self.tell(&problem, seen, note, body, answer).await
    }

    /// Answers with a problem.
    pub(super) async fn tell<B: Upload, A: Reply>(
        &self,
        problem: &Problem,
        seen: &mut Seen<'_>,
        note: &Note,
        body: &B,
        answer: &mut A,
    ) -> Result<(), ClientGone> {
        seen.flag = problem.flag;
        let (metrics, stripe) = (&self.local.metrics, self.local.worker.stripe);
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
            pool: seen.route.map(|route| self.site.routes.route(route).pool.as_str()),
            shard: seen.shard(note),
            epoch: seen.pool.map(|pool| pool.agreed.epoch.0),
            request_id: self.id(),
        };
        answer.problem(problem, &about, body.is_complete()).await
    }
}
