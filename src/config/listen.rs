//! Where does the process listen, and what does it show to whom?

use std::net::SocketAddr;

use super::checked::{
    CertificateFiles, ClientCertificates, DataListener, ListenConfig, ListenerTls,
};
use super::process::path;
use super::schema;
use super::section::Section;
use super::spot::Spot;

/// Where peers are listened for, next to the ports of the other listeners.
const PEER_PORT: u16 = 9602;

/// Addresses of the data listeners.
const ADDRESSES_MAX: usize = 64;

/// Certificates of one listener: read at each reload, and looked at by nobody at once.
const CERTIFICATES_MAX: usize = 1024;

/// `clustered`: whether the node is part of a cluster, and so listens for its peers.
pub(super) fn listen(file: &Section<'_>, clustered: bool) -> ListenConfig {
    let peer = clustered.then(|| SocketAddr::from(([127, 0, 0, 1], PEER_PORT)));
    let mut listen = ListenConfig { peer, ..ListenConfig::default() };
    let Some(section) = file.sub("listen", &schema::LISTEN) else { return listen };
    // Every address that is written, to find what two listeners claim.
    let mut written: Vec<(SocketAddr, Spot<'_>)> = Vec::new();
    section.set("data", &mut listen.data, |spot| {
        let spots = match spot.is_map() {
            true => vec![spot.clone()],
            false => spot.items_or_one()?,
        };
        match spots.len() {
            0 => return spot.refuse("found an empty list", "write at least one address"),
            1..=ADDRESSES_MAX => {}
            many => {
                let help = format!("write at most {ADDRESSES_MAX}");
                return spot.refuse(format!("found {many} addresses"), help);
            }
        }
        let found = spots.iter().filter_map(data_listener);
        let (listeners, places): (Vec<_>, Vec<_>) = found.unzip();
        written.extend(listeners.iter().map(|listener| listener.address).zip(places));
        Some(listeners)
    });
    for (key, into) in [("telemetry", &mut listen.telemetry), ("admin", &mut listen.admin)] {
        section.set(key, into, |spot| {
            let address = spot.or_word("off", address)?;
            written.extend(address.map(|address| (address, spot.clone())));
            Some(address)
        });
    }
    section.set("peer", &mut listen.peer, |spot| {
        let address = address(spot)?;
        written.push((address, spot.clone()));
        if !clustered {
            let help = "write a `cluster` section, or remove this";
            return spot.refuse("a standalone node has no peers", help);
        }
        Some(Some(address))
    });
    find_collisions(&section, &listen, &written);
    if let (Some(admin), Some(spot)) = (listen.admin, section.get("admin"))
        && !admin.ip().is_loopback()
    {
        spot.warn(
            "the admin listener can be reached over the network, and has no TLS in this release",
            "whoever reads the traffic learns the admin token: use 127.0.0.1 and a tunnel",
        );
    }
    listen
}

/// An address, or a mapping with one.
fn data_listener<'a>(spot: &Spot<'a>) -> Option<(DataListener, Spot<'a>)> {
    if !spot.is_map() {
        return Some((DataListener::clear(address(spot)?), spot.clone()));
    }
    let section = spot.section(&schema::LISTENER)?;
    let place = section.need("address", "an address and a port, such as `127.0.0.1:8443`");
    let mut proxy_protocol = false;
    let rules = [("off", false), ("required", true)];
    section.set("proxy_protocol", &mut proxy_protocol, |spot| spot.one_of(&rules, &[]));
    let mut tls = None;
    section.set("tls", &mut tls, |spot| {
        spot.or_word("off", |spot| Some(listener_tls(&spot.section(&schema::LISTENER_TLS)?)))
    });
    let place = place?;
    Some((DataListener { address: address(&place)?, tls, proxy_protocol }, place))
}

fn listener_tls(section: &Section<'_>) -> ListenerTls {
    let mut tls = ListenerTls::default();
    let what = "a list with at least one certificate: `[{ cert: FILE, key: FILE }]`";
    if let Some(spot) = section.need("certificates", what) {
        let spots = if spot.is_map() { Some(vec![spot.clone()]) } else { spot.items() };
        let spots = spots.unwrap_or_default();
        if spots.len() > CERTIFICATES_MAX {
            let help = format!("write at most {CERTIFICATES_MAX}");
            spot.refuse::<()>(format!("found {} certificates", spots.len()), help);
        } else if spots.is_empty() && !spot.is_null() {
            spot.refuse::<()>("found no certificates", format!("write {what}"));
        }
        tls.certificates = spots.iter().filter_map(certificate).collect();
    }
    let file = |spot: &Spot<'_>| path(spot, "the path of a PEM file");
    section.set("client_ca", &mut tls.client_ca, |spot| spot.or_word("none", file));
    let rules = [
        ("off", ClientCertificates::Off),
        ("optional", ClientCertificates::Optional),
        ("required", ClientCertificates::Required),
    ];
    section
        .set("client_certificates", &mut tls.client_certificates, |spot| spot.one_of(&rules, &[]));
    match (&tls.client_ca, tls.client_certificates) {
        (None, ClientCertificates::Optional | ClientCertificates::Required) => {
            if let Some(spot) = section.get("client_certificates") {
                let help = "write `client_ca:` and the PEM file of the authority that signs for \
                            clients, or `client_certificates: off`";
                spot.refuse::<()>("nobody is named who signs for clients", help);
            }
        }
        (Some(_), ClientCertificates::Off) => {
            if let Some(spot) = section.get("client_ca") {
                let help = "write `client_certificates: required` or `optional`, or remove this";
                spot.refuse::<()>("clients are not asked for certificates", help);
            }
        }
        _ => {}
    }
    tls
}

fn certificate(spot: &Spot<'_>) -> Option<CertificateFiles> {
    let section = spot.section(&schema::CERTIFICATE)?;
    let file = |key| {
        let spot = section.need(key, "the path of a PEM file")?;
        path(&spot, "the path of a PEM file")
    };
    let (cert, key) = (file("cert"), file("key"));
    Some(CertificateFiles { cert: cert?, key: key? })
}

/// Says which listeners claim one address. `written` are those of `listen` that are written.
fn find_collisions(
    section: &Section<'_>,
    listen: &ListenConfig,
    written: &[(SocketAddr, Spot<'_>)],
) {
    for (at, (one, spot)) in written.iter().enumerate() {
        if let Some((_, first)) = written[..at].iter().find(|(first, _)| collide(*first, *one)) {
            let other = (first.place(), "the first listens here");
            spot.clash("two listeners claim one address", other, "give each its own port");
        }
    }
    // The defaults take part in this as well: what they claim is said at what was written.
    let silent = |key| section.get(key).is_none();
    let data = listen.data.iter().map(|listener| ("data", listener.address));
    let others = [("telemetry", listen.telemetry), ("admin", listen.admin), ("peer", listen.peer)];
    let others = others.into_iter().filter_map(|(key, address)| Some((key, address?)));
    for (key, own) in data.chain(others).filter(|(key, _)| silent(key)) {
        if let Some((_, spot)) = written.iter().find(|(one, _)| collide(*one, own)) {
            let message = format!("`listen.{key}`, which is not written, is {own} by default");
            spot.refuse::<()>(message, format!("use another port here, or write `{key}:` too"));
        }
    }
}

/// Whether the second of two listeners could not be opened, or would take the first one's clients.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let same_ip = one.ip() == other.ip()
        || (one.is_ipv4() == other.is_ipv4()
            && (one.ip().is_unspecified() || other.ip().is_unspecified()));
    // Port 0 lets the system choose, and it chooses differently each time.
    one.port() == other.port() && one.port() != 0 && same_ip
}

fn address(spot: &Spot<'_>) -> Option<SocketAddr> {
    const WHAT: &str = "an address and a port, such as `127.0.0.1:8080` or `[::1]:8080`";
    let text = spot.text(WHAT)?;
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let message = format!("`{text}` is not an address to listen on");
    let port = text.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
    match (text.rsplit_once(':'), port) {
        (Some(("" | "*", _)), Some(port)) => {
            let help = format!("write `0.0.0.0:{port}` to listen on every address of the host");
            spot.refuse(message, help)
        }
        (Some(("localhost", _)), Some(port)) => {
            spot.refuse(message, format!("write `127.0.0.1:{port}`"))
        }
        (None, Some(port)) => spot.refuse(
            message,
            format!("write `127.0.0.1:{port}`, or `0.0.0.0:{port}` for every address"),
        ),
        _ => spot.refuse(message, format!("write {WHAT}")),
    }
}
