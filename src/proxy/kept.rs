//! What may be asked of a pool that keeps data, and what does it mean?
//!
//! A pool that keeps data is not a server that requests are passed on to: it takes few methods, and
//! what it cannot heed it refuses. Nothing that a client sends may be quietly ignored if its writer
//! would take the answer for more than it is (DESIGN, section 4): a condition that nobody looks at, a
//! part that is stored as the whole, a query that names another thing.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use super::exchange::Exchange;
use super::forward::class_of;
use super::problem::{KEPT_ALLOWED, Problem};
use super::routing::Routed;
use super::seam::{Reply, Upload, Watch};
use super::seen::Seen;
use crate::cluster::KeptSpec;
use crate::dispatch::kept::conditions::Conditions;
use crate::dispatch::kept::{Act, KeptRequest, Wanted, run};
use crate::dispatch::outcome::{Failure, Note};
use crate::dispatch::seam::ClientGone;
use crate::drivers::native::{KEPT_BYTES_MAX, KEPT_NAME_BYTES_MAX, is_kept};
use crate::level::Level;
use crate::net::http1::framing::Framing;
use crate::net::http1::head::{FieldKind, write_field};
use crate::net::http1::request::RequestHead;
use crate::protocol::replica::words::KEY_BYTES_MAX;

/// What a request says beside its key.
struct Said<'w> {
    fields: Vec<u8>,
    conditions: Conditions,
    range: Option<Wanted>,
    if_range: Option<&'w [u8]>,
}

impl Exchange<'_> {
    /// Answers a request to a pool that keeps data.
    #[allow(clippy::too_many_arguments, reason = "both directions, and what is remembered")]
    pub(super) async fn answer_kept<'s, B: Upload, A: Reply>(
        &self,
        head: &RequestHead,
        whole: &'s [u8],
        routed: &Routed<'s>,
        kept: &KeptSpec,
        seen: &mut Seen<'s>,
        note: &mut Note,
        body: &mut B,
        answer: &mut A,
    ) -> Result<(), ClientGone> {
        if seen.method == b"OPTIONS" {
            return answer.plain(204, &[("Allow", KEPT_ALLOWED)], body.is_complete()).await;
        }
        let said;
        let request = match understand(head, whole, seen, routed, kept) {
            Ok((act, level, understood)) => {
                said = understood;
                KeptRequest {
                    act,
                    key: &seen.path[1..],
                    token: routed.token,
                    level,
                    fields: &said.fields,
                    framing: head.framing(),
                    conditions: said.conditions.clone(),
                    range: said.range,
                    if_range: said.if_range,
                    trace: self.part.get().and_then(|part| part.trace()).cloned(),
                }
            }
            Err(problem) => return self.tell(&problem, seen, note, body, answer).await,
        };
        let pool: &Arc<_> = routed.pool;
        let watch = answer.watch();
        let done = {
            let run = run(&self.local.worker, self.timer, pool, &request, body, answer, note);
            let mut run = pin!(run);
            poll_fn(|cx| match run.as_mut().poll(cx) {
                Poll::Pending => watch.poll_gone(cx).map(|()| Err(Failure::ClientGone)),
                done => done,
            })
            .await
        };
        match done {
            Ok(()) => Ok(()),
            Err(failure) => {
                let class = class_of(seen.method);
                self.fail(&failure, class, seen, note, body, answer).await
            }
        }
    }
}

fn understand<'w>(
    head: &RequestHead,
    whole: &'w [u8],
    seen: &Seen<'_>,
    routed: &Routed<'_>,
    kept: &KeptSpec,
) -> Result<(Act, Level, Said<'w>), Problem> {
    let act = match seen.method {
        b"GET" => Act::Get,
        b"HEAD" => Act::Head,
        b"PUT" => Act::Put,
        b"DELETE" => Act::Delete,
        _ => return Err(Problem::method(KEPT_ALLOWED.to_owned())),
    };
    let key_bytes = seen.path.len() - 1;
    if key_bytes == 0 {
        let detail = "a key is a path of at least one character behind its first `/`";
        return Err(Problem::kept_request("bad-key", detail));
    }
    if key_bytes > KEY_BYTES_MAX {
        return Err(Problem::key_too_long(key_bytes, KEY_BYTES_MAX));
    }
    if seen.query.is_some_and(|query| !query.is_empty()) {
        let detail = "a pool that keeps data knows no query: leave out what follows the `?`, or \
                      write it as %3F if it is part of the key";
        return Err(Problem::kept_request("unknown-query", detail));
    }
    if act != Act::Put && head.framing() != Framing::None {
        let detail = "only PUT has content here: leave it out";
        return Err(Problem::kept_request("unexpected-content", detail));
    }
    let level = match &routed.level {
        None => kept.consistency,
        Some(text) => {
            let lower = text.to_ascii_lowercase();
            lower.parse().map_err(|_| Problem::kept_level(text))?
        }
    };
    Ok((act, level, read_fields(head, whole, act)?))
}

fn read_fields<'w>(head: &RequestHead, whole: &'w [u8], act: Act) -> Result<Said<'w>, Problem> {
    let (mut fields, mut kept_bytes) = (Vec::new(), 0);
    let (mut conditions, mut range, mut if_range) = (Conditions::default(), None, None);
    let mut ranges = 0;
    for field in head.fields().iter().filter(|field| !field.nominated) {
        let (name, value) = (field.name.of_bytes(whole), field.value.of_bytes(whole));
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match act {
            _ if field.kind != FieldKind::EndToEnd => {}
            Act::Put if is_kept(name) => {
                kept_bytes += name.len() + value.len();
                if name.len() > KEPT_NAME_BYTES_MAX || kept_bytes > KEPT_BYTES_MAX {
                    return Err(Problem::kept_fields_too_large(kept_bytes, KEPT_BYTES_MAX));
                }
                write_field(&mut fields, name, value);
            }
            Act::Put if is("content-range") => {
                let detail = "a PUT stores the whole value: send it whole, without Content-Range";
                return Err(Problem::kept_request("content-range", detail));
            }
            Act::Put | Act::Delete => {
                let conditions = ["If-Match", "If-None-Match", "If-Unmodified-Since"];
                if let Some(name) = conditions.into_iter().find(|name| is(name)) {
                    return Err(Problem::condition_unsupported(name));
                }
            }
            Act::Get if is("range") => {
                ranges += 1;
                range = Wanted::read(value);
            }
            Act::Get if is("if-range") => if_range = Some(value),
            Act::Get | Act::Head => {
                conditions.take(name, value);
            }
        }
    }
    // Two lines mean nothing together, and the whole is always allowed.
    let range = range.filter(|_| ranges == 1);
    Ok(Said { fields, conditions, range, if_range })
}
