//! What does the head of a replica request say, and may the store do anything about it?

use std::cmp::Ordering;
use std::str::FromStr;
use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;

use crate::ids::{Birth, ClusterId, PoolName, ShardId, StoreId, Token};
use crate::protocol::holding::{Admission, admit, is_ahead};
use crate::protocol::replica::{PoolEpoch, Refusal, StageId, Target, parse_token, words};
use crate::store::engine::Store;
use crate::store::problem::Problem;
use crate::store::replica::record::RowKey;
use crate::store::replica::view::PoolView;
use crate::store::replica::write::{KeptAction, KeptDone, KeptError, KeptWrite};
use crate::store::view::View;
use crate::version::Version;

pub(super) const EPOCH: HeaderName = HeaderName::from_static(words::EPOCH);
pub(super) const VERSION: HeaderName = HeaderName::from_static(words::VERSION);

/// A request that is meant for this store, by a node that acts by the epoch in force.
pub(super) struct Ask<'a> {
    pub(super) store: &'a Arc<Store>,
    pub(super) parts: &'a Parts,
    pub(super) target: Target<'a>,
    pub(super) pool: PoolName,
    cluster: ClusterId,
    birth: Birth,
    epoch: PoolEpoch,
}

impl<'a> Ask<'a> {
    /// Looks at everything that every request is told by, and raises the fence if this is the first
    /// one of its epoch.
    pub(super) async fn admit(
        store: &'a Arc<Store>,
        parts: &'a Parts,
        target: Target<'a>,
    ) -> Result<Self, Problem> {
        check_store(store, &parts.headers, true)?;
        let cluster = required::<ClusterId>(&parts.headers, words::CLUSTER)?;
        let birth = birth(&parts.headers)?;
        let epoch = required::<PoolEpoch>(&parts.headers, words::EPOCH)?;
        let (pool, highest) = {
            let view = store.view();
            let pool = view.pool(target.pool).ok_or_else(|| problem(KeptError::NotBound))?;
            if pool.facts().cluster != cluster {
                return Err(problem(KeptError::OtherCluster));
            }
            check_birth(pool.facts().birth, birth).map_err(problem)?;
            (pool.name().clone(), pool.facts().epoch)
        };
        let ask = Self { store, parts, target, pool, cluster, birth, epoch };
        match admit(highest, epoch) {
            Admission::Stale => return Err(problem(KeptError::Stale(highest))),
            Admission::Raise => drop(ask.write(KeptAction::Raise, 0).await?),
            Admission::Current => {}
        }
        Ok(ask)
    }

    /// Has a change carried out.
    pub(super) async fn write(
        &self,
        action: KeptAction,
        cost_bytes: usize,
    ) -> Result<KeptDone, Problem> {
        let (pool, cluster) = (self.pool.clone(), self.cluster);
        let (birth, epoch) = (self.birth, self.epoch);
        let write = KeptWrite { pool, cluster, birth, epoch, action, cost_bytes };
        self.store.write_kept(write).await.map_err(problem)
    }

    /// The pool as a view has it, if that is still the one that is meant: while a body came, it may
    /// have been dropped, and its name be another's.
    pub(super) fn pool_in<'v>(&self, view: &'v View) -> Result<&'v PoolView, Problem> {
        let pool = view.pool(self.pool.as_str()).expect("a pool that was bound stays so");
        check_birth(pool.facts().birth, self.birth).map_err(problem)?;
        Ok(pool)
    }

    /// The key and its place.
    pub(super) fn key(&self) -> Result<RowKey, Problem> {
        let key = self.target.key.as_bytes();
        check_key(key)?;
        let text = text(&self.parts.headers, words::TOKEN)?.ok_or_else(|| missing(words::TOKEN))?;
        let token: Token = parse_token(text).map_err(|error| malformed(words::TOKEN, &error))?;
        Ok(RowKey::new(token, key))
    }

    /// Which upload.
    pub(super) fn stage(&self) -> Result<StageId, Problem> {
        required(&self.parts.headers, words::STAGE)
    }

    /// The version of the write, if the store's clock can have it.
    pub(super) fn version(&self) -> Result<Version, Problem> {
        let version = required(&self.parts.headers, words::VERSION)?;
        self.check_clock(version)?;
        Ok(version)
    }

    /// A version from the future would win against every write until then.
    pub(super) fn check_clock(&self, version: Version) -> Result<(), Problem> {
        let now_ms = (self.store.options().clock)();
        if !is_ahead(version, now_ms) {
            return Ok(());
        }
        let ahead_ms = version.stamp.unix_ms().saturating_sub(now_ms);
        let detail = format!(
            "The version is {ahead_ms} ms ahead of this store's clock, {} are allowed. Set the \
             clock of the node or of the store right.",
            words::AHEAD_MAX_MS
        );
        Err(Problem::refusal(Refusal::ClockAhead, "The version is from the future", detail))
    }
}

/// Keys are at most so long as in the rest of the store.
pub(super) fn check_key(key: &[u8]) -> Result<(), Problem> {
    if key.is_empty() {
        return Err(Problem::bad_request("no-key", "Name a key."));
    }
    if key.len() > words::KEY_BYTES_MAX {
        let max = words::KEY_BYTES_MAX;
        let detail = format!("A key has at most {max} bytes, this has {}.", key.len());
        let status = http::StatusCode::URI_TOO_LONG;
        return Err(Problem::new(status, "key-too-long", "The key is too long", detail));
    }
    Ok(())
}

/// Whether this store is meant.
pub(super) fn check_store(
    store: &Store,
    fields: &HeaderMap,
    must_be_said: bool,
) -> Result<(), Problem> {
    match fields.get(words::STORE) {
        Some(said) if said == store.id_field() => Ok(()),
        None if must_be_said => Err(missing(words::STORE)),
        None => Ok(()),
        Some(_) if required::<StoreId>(fields, words::STORE)? == store.id() => Ok(()),
        Some(_) => {
            let detail = "The shard is bound to another store than the one that answers here; \
                          nothing was done. Give the shard's address to its store, or replace the \
                          shard.";
            Err(Problem::refusal(Refusal::Foreign, "Another store is meant", detail))
        }
    }
}

/// When the pool that is meant came to be.
fn birth(fields: &HeaderMap) -> Result<Birth, Problem> {
    Ok(optional(fields, words::BIRTH)?.unwrap_or_default())
}

/// Whether the pool that is `meant` is the one that is bound.
pub(super) fn check_birth(bound: Birth, meant: Birth) -> Result<(), KeptError> {
    match meant.cmp(&bound) {
        Ordering::Equal => Ok(()),
        Ordering::Less => Err(KeptError::OtherBirth(bound)),
        Ordering::Greater => Err(KeptError::NotBound),
    }
}

/// Which shard the store is to be, of which cluster's pool.
pub(super) fn binding(fields: &HeaderMap) -> Result<(ClusterId, Birth, ShardId), Problem> {
    let birth = birth(fields)?;
    let cluster = required(fields, words::CLUSTER)?;
    let shard = text(fields, words::SHARD)?.ok_or_else(|| missing(words::SHARD))?;
    let shard = ShardId::new(shard).map_err(|error| malformed(words::SHARD, &error))?;
    Ok((cluster, birth, shard))
}

/// A field that there is one of; `None` if there is none.
pub(super) fn text<'f>(
    fields: &'f HeaderMap,
    name: &'static str,
) -> Result<Option<&'f str>, Problem> {
    let Some(value) = fields.get(name) else { return Ok(None) };
    let text = value.to_str();
    text.map(Some).map_err(|error| malformed(name, &error))
}

/// A field that there may be.
pub(super) fn optional<T: FromStr<Err: std::error::Error>>(
    fields: &HeaderMap,
    name: &'static str,
) -> Result<Option<T>, Problem> {
    let parse = |text: &str| text.parse().map_err(|error| malformed(name, &error));
    text(fields, name)?.map(parse).transpose()
}

/// A field that there must be.
pub(super) fn required<T: FromStr<Err: std::error::Error>>(
    fields: &HeaderMap,
    name: &'static str,
) -> Result<T, Problem> {
    optional(fields, name)?.ok_or_else(|| missing(name))
}

fn missing(name: &'static str) -> Problem {
    let detail = format!(
        "The field `{name}` is missing, which nodes send. Clients ask the proxy, not the store."
    );
    Problem::bad_request("field", detail)
}

fn malformed(name: &'static str, error: &dyn std::error::Error) -> Problem {
    Problem::bad_request("field", format!("The field `{name}` cannot be read: {error}."))
}

/// What a node is told of a change that was not made.
pub(super) fn problem(error: KeptError) -> Problem {
    match error {
        KeptError::Write(error) => Problem::write(&error),
        KeptError::NotBound => {
            let detail = "This store is no shard of the pool; nothing was done. Bind it first.";
            Problem::refusal(Refusal::NotBound, "The store is no shard of the pool", detail)
        }
        KeptError::OtherBirth(born) => {
            let detail = format!(
                "This store keeps a later pool of this name, that of {born}: the one that is meant \
                 was dropped; nothing was done."
            );
            Problem::refusal(Refusal::OtherBirth, "The pool was dropped", detail)
        }
        KeptError::OtherCluster => {
            let detail = "What this store holds of the pool belongs to another cluster; nothing \
                          was done. Give the shard a store on an empty folder.";
            Problem::refusal(Refusal::OtherCluster, "The pool is another cluster's here", detail)
        }
        KeptError::OtherShard(shard) => {
            let detail = format!(
                "This store is shard `{shard}` of the pool; nothing was done. One store is one \
                 shard: give the other a store of its own."
            );
            Problem::refusal(Refusal::OtherShard, "The store is another shard", detail)
        }
        KeptError::Stale(epoch) => {
            let detail = "The store was told a later epoch of the pool; nothing was done. Repeat \
                          the request once the node has it.";
            let epoch = HeaderValue::from_str(&epoch.to_string()).expect("digits and a point");
            Problem::refusal(Refusal::StaleEpoch, "The epoch is over", detail).with(EPOCH, epoch)
        }
        KeptError::NotStaged => {
            let detail = "No such body waits here for its commit; nothing was done. Copy the value \
                          from a replica that has it.";
            Problem::refusal(Refusal::NotStaged, "Nothing was staged", detail)
        }
        KeptError::OtherToken(token) => {
            let detail = format!(
                "The key is held under token {token}; nothing was done. A pool's hash seed must \
                 stay as it was."
            );
            Problem::refusal(Refusal::OtherToken, "The key is elsewhere on the circle", detail)
        }
    }
}

/// A version as a field's value.
pub(super) fn version_field(version: Version) -> HeaderValue {
    HeaderValue::from_bytes(version.text().as_bytes()).expect("digits and hyphens")
}
