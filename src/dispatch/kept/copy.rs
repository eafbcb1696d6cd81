//! How is a replica brought what another one has?

use std::rc::Rc;

use super::super::trace::Round;
use super::exchanges::Reply;
use super::job::{Content, Job};
use crate::drivers::native::{Committed, Doubt, Fault, Fetch, Got, Held, Origin, Refused, Replica};
use crate::net::timers::Timer;
use crate::protocol::quorum::Set;
use crate::protocol::replica::Refusal;
use crate::version::Version;

/// What is copied in one piece, so that a connection which was closed meanwhile costs nothing.
const HELD_BYTES_MAX: u64 = 64 * 1024;

impl Job {
    /// Brings a replica the value under this version: from the body if that is here, else from one
    /// that has it.
    pub(super) async fn copy(self: Rc<Self>, to: usize, from: Set, version: Version) -> Reply {
        if let Content::Held(_) = &self.content {
            // Boxed, as below: it is rare, and no smaller than what is not.
            return Box::pin(self.put(to, version)).await;
        }
        let mut result = Err(Fault::Refused(Refused::Said(Refusal::NotStaged)));
        for source in from.iter().filter(|source| *source != to) {
            // Boxed: it is rare, and its state is more than that of other exchanges.
            result = Box::pin(self.copy_from(source, to, version)).await;
            if result.is_ok() {
                break;
            }
        }
        self.pool().metrics.kept.copied(self.stripe, result.is_ok());
        Reply::Committed(result)
    }

    async fn copy_from(
        &self,
        source: usize,
        to: usize,
        version: Version,
    ) -> Result<Committed, Fault> {
        let key = (&*self.key, self.token);
        let get = async |replica: &Replica<'_>, timer: &Timer| {
            replica.get(&self.means, timer, key, None, Some(version)).await
        };
        let mut fetch = match self.ask(source, Round::Fetch, get).await? {
            Got::Value(fetch) => fetch,
            Got::Nothing(Held::Damaged(_)) => {
                return Err(Fault::Refused(Refused::Said(Refusal::Damaged)));
            }
            // It was overwritten there: whoever asks for this version is late.
            Got::Nothing(_) | Got::Other(_) | Got::Outside => {
                self.overwritten.set(true);
                return Err(Fault::Refused(Refused::Said(Refusal::NotStaged)));
            }
        };
        let timer = self.means.timers.register();
        let (length, modified_ms) = (fetch.length, Some(fetch.value.modified_ms));
        let fields = std::mem::take(&mut fetch.value.kept);
        // What a disk has spoilt is not to spread: who is brought it looks whether it is this.
        let digest = fetch.value.digest.take();
        let origin = Origin { modified_ms, digest: digest.as_deref() };
        if length <= HELD_BYTES_MAX {
            let body = whole(&mut fetch, &timer).await?;
            let put = async |replica: &Replica<'_>, timer: &Timer| {
                let means = &self.means;
                replica.put(means, timer, key, version, &fields, origin, &body).await
            };
            return self.ask(to, Round::Put, put).await;
        }
        let fetch = std::cell::RefCell::new(Some(fetch));
        let put = async |replica: &Replica<'_>, timer: &Timer| {
            // Gone, if this is asked again.
            let taken = fetch.borrow_mut().take();
            let mut fetch = taken.ok_or(Fault::Refused(Refused::Said(Refusal::Busy)))?;
            let (means, length) = (&self.means, Some(length));
            let begun = replica.begin_put(means, timer, key, version, &fields, origin, length);
            let mut upload = begun.await?;
            while let Some(bytes) = fetch.next(timer).await? {
                upload.write(bytes).await?;
            }
            upload.put().await
        };
        self.ask(to, Round::Put, put).await
    }
}

async fn whole(fetch: &mut Fetch, timer: &Timer) -> Result<Vec<u8>, Doubt> {
    let mut body = Vec::new();
    while let Some(bytes) = fetch.next(timer).await? {
        body.extend_from_slice(bytes);
    }
    Ok(body)
}
