//! By which doors do clients come in, and what hangs on the files of their certificates?
//!
//! One [`Door`] for each data listener, made at the start. A reload reads all files of all doors
//! before any is adopted, so that one that is wrong changes nothing; connections that are open go
//! on by the old ones, and none is refused in between.

use std::sync::Arc;
use std::time::Duration;

use prometheus::proto::MetricFamily;

use super::error::AppError;
use super::store::unix_ms;
use crate::config::{
    ClientCertificates as Asked, Config, DataListener, ListenConfig, ListenerTls as Written,
};
use crate::metrics::{Group, Kind, Sample};
use crate::net::tls::{ClientCertificates, ListenerFiles, ListenerTls, LoadedListener, Served};
use crate::proxy::door::{Door, protocols};
use crate::time::rfc3339;

/// How often somebody looks whether a certificate ends soon.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// The doors of a node, in the order of its data listeners.
#[derive(Clone)]
pub struct Doors(Arc<[Arc<Door>]>);

/// What the files of all doors hold now, adopted or dropped as a whole.
pub struct Reread(Vec<Option<LoadedListener>>);

impl Doors {
    /// Loads all files.
    ///
    /// # Errors
    /// Which file is wrong, and what to do.
    pub fn open(config: &Config) -> Result<Self, AppError> {
        let (listen, protocols) = (&config.listen, offered(config));
        let door = |listener: &DataListener| {
            let load = |tls| ListenerTls::load(&files(tls), protocols).map(Arc::new);
            let tls = listener.tls.as_ref().map(load).transpose();
            let tls = tls.map_err(|error| AppError::listener_tls(listener.address, error))?;
            Ok(Arc::new(Door { tls, proxy_protocol: listener.proxy_protocol }))
        };
        listen.data.iter().map(door).collect::<Result<_, _>>().map(Self)
    }

    /// The doors.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Door>> {
        self.0.iter()
    }

    /// Reads the files that `config` names, whose listeners are those of the start.
    ///
    /// # Errors
    /// Which file is wrong, and what to do.
    pub fn read_again(&self, config: &Config) -> Result<Reread, AppError> {
        let (listen, protocols) = (&config.listen, offered(config));
        let read = |(door, listener): (&Arc<Door>, &DataListener)| {
            let (Some(tls), Some(written)) = (&door.tls, &listener.tls) else { return Ok(None) };
            let loaded = tls.read_again(&files(written), protocols);
            loaded.map(Some).map_err(|error| AppError::listener_tls(listener.address, error))
        };
        self.0.iter().zip(&listen.data).map(read).collect::<Result<_, _>>().map(Reread)
    }

    /// From here on new connections are served by what was read.
    pub fn adopt(&self, reread: Reread) {
        for (door, loaded) in self.0.iter().zip(reread.0) {
            if let (Some(tls), Some(loaded)) = (&door.tls, loaded) {
                tls.adopt(loaded);
            }
        }
        self.tell_expiry();
    }

    fn served(&self) -> Vec<Served> {
        let mut served: Vec<_> = self
            .0
            .iter()
            .filter_map(|door| door.tls.as_ref())
            .flat_map(|tls| tls.served())
            .collect();
        // One file may serve several listeners.
        served.sort_by(|one, other| one.path.cmp(&other.path));
        served.dedup_by(|one, other| one.path == other.path);
        served
    }

    /// Says which certificates end soon.
    pub fn tell_expiry(&self) {
        for warning in self.served().iter().filter_map(|one| one.expiry_warning(unix_ms() / 1000)) {
            tracing::warn!("{warning}");
        }
    }

    /// What is served and until when: `tls/site.pem until 2027-06-09, …`.
    #[must_use]
    pub fn certificates(&self) -> Option<String> {
        let each = self.served().into_iter().map(|one| {
            let until = rfc3339(one.not_after_s.saturating_mul(1000));
            let day = until.split('T').next().unwrap_or_default();
            format!("{} until {day}", one.path.display())
        });
        Some(each.collect::<Vec<_>>().join(", ")).filter(|all| !all.is_empty())
    }

    /// Says so every day.
    pub async fn watch(self) {
        let mut ticks = tokio::time::interval(CERTIFICATE_INTERVAL);
        loop {
            ticks.tick().await;
            self.tell_expiry();
        }
    }

    /// When each certificate ends.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^53")]
    pub fn export(&self) -> Vec<MetricFamily> {
        let name = "ringway_listener_certificate_expiry_timestamp_seconds";
        let help = "When a certificate that clients are shown ends, in seconds since 1970.";
        let mut group = Group::new(name, help, Kind::Gauge, &["certificate"]);
        for one in self.served() {
            let path = one.path.display().to_string();
            group.push(&[&path], Sample::Gauge(one.not_after_s as f64));
        }
        group.finish().into_iter().collect()
    }
}

fn offered(config: &Config) -> &'static [&'static [u8]] {
    protocols(config.client.limits.http2.is_some())
}

fn files(tls: &Written) -> ListenerFiles {
    let pairs = tls.certificates.iter();
    ListenerFiles {
        certificates: pairs.map(|files| (files.cert.clone(), files.key.clone())).collect(),
        client_ca: tls.client_ca.clone(),
        client_certificates: match tls.client_certificates {
            Asked::Off => ClientCertificates::Off,
            Asked::Optional => ClientCertificates::Optional,
            Asked::Required => ClientCertificates::Required,
        },
    }
}

/// Whether two configurations listen alike, but for the files of certificates, which a reload may
/// change.
#[must_use]
pub fn same_sockets(old: &ListenConfig, new: &ListenConfig) -> bool {
    let bare = |listen: &ListenConfig| {
        let mut listen = listen.clone();
        for listener in &mut listen.data {
            listener.tls = listener.tls.as_ref().map(|_| Written::default());
        }
        listen
    };
    bare(old) == bare(new)
}
