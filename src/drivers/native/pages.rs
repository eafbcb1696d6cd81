//! What can a store be asked about many keys at once, and about itself?

use std::fmt::Write as _;

use serde::de::DeserializeOwned;

use super::ask::Ask;
use super::calls::Replica;
use super::fault::{Doubt, Fault};
use super::line::{Line, Means};
use crate::ids::Token;
use crate::net::timers::Timer;
use crate::protocol::replica::{Dropped, Page, SUM_BYTES, State, Sum, Watermarks};
use crate::version::Version;

/// Bytes of a page. A thousand keys of the greatest length, each with its escapes, are three
/// megabytes.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

impl Replica<'_> {
    async fn page(
        &self,
        means: &Means,
        timer: &Timer,
        ask: &Ask<'_>,
        body: Option<&[u8]>,
    ) -> Result<Vec<u8>, Fault> {
        let mut line = Line::ask(self, means, timer, ask, body).await?;
        if line.facts.status != 200 {
            return Err(line.refusal(timer).await);
        }
        Ok(line.body(timer, PAGE_BYTES_MAX).await?)
    }

    async fn parsed<T: DeserializeOwned>(
        &self,
        means: &Means,
        timer: &Timer,
        ask: &Ask<'_>,
        body: Option<&[u8]>,
    ) -> Result<T, Fault> {
        let page = self.page(means, timer, ask, body).await?;
        serde_json::from_slice(&page).map_err(|_| Doubt::BadAnswer("page").into())
    }

    async fn json<T: DeserializeOwned>(
        &self,
        means: &Means,
        timer: &Timer,
        ask: &Ask<'_>,
    ) -> Result<T, Fault> {
        self.parsed(means, timer, ask, None).await
    }

    /// Keys with a token from `from` to `to`, both included, in the order of tokens.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn keys(
        &self,
        means: &Means,
        timer: &Timer,
        (from, to): (Token, Token),
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page, Fault> {
        self.json(means, timer, &Ask::Keys { from, to, cursor, limit }).await
    }

    /// Keys that begin with `prefix`, behind `after`, in the order of keys.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn list(
        &self,
        means: &Means,
        timer: &Timer,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, Fault> {
        self.json(means, timer, &Ask::List { prefix, after, limit }).await
    }

    /// Keys that were deleted before a moment.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn tombstones(
        &self,
        means: &Means,
        timer: &Timer,
        before_ms: u64,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page, Fault> {
        self.json(means, timer, &Ask::Tombstones { before_ms, cursor, limit }).await
    }

    /// Sums over `count` slots from `from` on, `fold` of them in one.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn digests(
        &self,
        means: &Means,
        timer: &Timer,
        from: u32,
        count: u32,
        fold: u32,
    ) -> Result<Vec<Sum>, Fault> {
        let body = self.page(means, timer, &Ask::Digests { from, count, fold }, None).await?;
        let (sums, rest) = body.as_chunks::<SUM_BYTES>();
        if !rest.is_empty() || sums.len() as u64 != u64::from(count.div_ceil(fold.max(1))) {
            return Err(Doubt::BadAnswer("digests").into());
        }
        Ok(sums.iter().map(Sum::from_bytes).collect())
    }

    /// The watermarks of `count` slots from `from` on, as far as they have one.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn watermarks(
        &self,
        means: &Means,
        timer: &Timer,
        from: u32,
        count: u32,
    ) -> Result<Watermarks, Fault> {
        self.json(means, timer, &Ask::Watermarks { from, count }).await
    }

    /// Raises a slot's watermark to `version`, if there is one, and to that of each tombstone named;
    /// those that the store still holds are dropped.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn watermark(
        &self,
        means: &Means,
        timer: &Timer,
        slot: u16,
        version: Option<Version>,
        tombstones: &[(String, Version)],
    ) -> Result<Dropped, Fault> {
        let mut body = String::new();
        for (key, version) in tombstones {
            writeln!(body, "{key} {version}").expect("a string takes all");
        }
        let ask = Ask::Watermark { slot, version };
        self.parsed(means, timer, &ask, Some(body.as_bytes())).await
    }

    /// Asks the store how it is.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn state(&self, means: &Means, timer: &Timer) -> Result<State, Fault> {
        self.json(means, timer, &Ask::State).await
    }
}
