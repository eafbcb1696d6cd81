//! Where does a request go?

use std::borrow::Cow;
use std::sync::Arc;

use super::forward::{HeadFields, check_own_fields, destination_path};
use super::problem::Problem;
use super::seen::Seen;
use super::site::Site;
use crate::dispatch::view::Pool;
use crate::ids::{Revision, Token};
use crate::key::{canonical_path, check_query};
use crate::net::http1::framing::Framing;
use crate::net::http1::head::FieldKind;
use crate::net::http1::request::RequestHead;
use crate::route::RequestView;

/// Where a request goes.
pub(super) struct Routed<'a> {
    pub(super) pool: &'a Arc<Pool>,
    pub(super) token: Token,
    pub(super) destination: Option<(Token, Vec<u8>)>,
    /// The level that was asked for; only of pools that give several.
    pub(super) level: Option<String>,
}

/// Methods that a cache pool forwards and that are worth naming in `Allow`.
pub(super) const ALLOWED: &str = "GET, HEAD, PUT, POST, PATCH, DELETE, OPTIONS, PROPFIND, PROPPATCH, MKCOL, \
                       COPY, MOVE, LOCK, UNLOCK";

/// The canonical form of a path, beside a query that is fit to go on.
///
/// # Errors
/// A [`Problem`] when there is none.
pub(super) fn canonical<'a>(
    path: &'a [u8],
    query: Option<&[u8]>,
) -> Result<Cow<'a, [u8]>, Problem> {
    let checked = query.map_or(Ok(()), check_query);
    checked.and_then(|()| canonical_path(path)).map_err(|error| Problem::of_key(&error))
}

/// Finds the request's route, pool and key. What is found on the way is noted in `seen`.
///
/// # Errors
/// A [`Problem`] when it is not to be forwarded.
pub(super) fn route<'s>(
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
    let level = check_own_fields(head, whole)?;
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
    let pool = site.pool_of(route);
    (seen.route, seen.pool) = (Some(route), pool.map(|pool| &**pool));
    let spec = site.routes.route(route);
    let allowed = &spec.allowed_methods;
    if !allowed.contains(seen.method) {
        return Err(Problem::method(allowed.iter().collect::<Vec<_>>().join(", ")));
    }
    let Some(pool) = pool else {
        return Err(match (site.view.topology.revision(), site.other_key_of(route)) {
            (_, Some(other)) => Problem::other_key(&other),
            (Revision(0), None) => Problem::no_topology(),
            (_, None) => Problem::no_pool(spec.pool.as_str()),
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
    if let Some(level) = &level
        && pool.agreed.spec.kept.is_none()
        && !level.eq_ignore_ascii_case("one")
    {
        return Err(Problem::level(level));
    }
    Ok(Routed { pool, token, destination, level })
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
