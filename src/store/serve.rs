//! How are a store's connections taken in, and how do they end?
//!
//! hyper speaks HTTP/1.1 here: the store is a server of its own kind, not the data path of the
//! proxy, and needs nothing of hyper's leniency undone, because a key has no two spellings.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::net::tls::ListenerTls;
use crate::store::engine::Store;
use crate::store::http::answer;
use crate::store::patience::{Patient, Phase};
use crate::store::replica::scrub;

/// Bytes that hyper reads or writes at once, which also bounds a request's head.
const BUFFER_BYTES: usize = 128 * 1024;

/// Bytes of a request's head: a key of 1 KiB, 8 KiB of kept fields, and what proxies add.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// How long no connection is accepted after the system refused one, for want of descriptors in
/// most cases.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often what was staged and forgotten is looked for.
const FORGET_INTERVAL: Duration = Duration::from_secs(30);

/// Where connections come in.
pub struct Door {
    /// The port.
    pub listener: TcpListener,
    /// The store's certificate, and whose clients' certificates are good; without it connections
    /// are plain.
    pub tls: Option<Arc<ListenerTls>>,
    /// Whether the shards of pools that keep data are served, to whoever connects: to be set only
    /// where nobody connects but nodes, since nothing else tells them from others.
    pub serves_nodes: bool,
}

/// As [`serve_at`], over plain connections; nodes are served if the port is one of loopback.
pub async fn serve(
    listener: TcpListener,
    store: Arc<Store>,
    stop: impl Future<Output = ()>,
) -> usize {
    let serves_nodes = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    serve_at(Door { listener, tls: None, serves_nodes }, store, stop).await
}

/// Serves `store` until `stop` is ready, then drains: no connection is accepted, idle ones are
/// closed, requests under way may end within [`crate::store::StoreOptions::drain`]. When it
/// returns, no connection is left; answers how many had to be cut.
pub async fn serve_at(door: Door, store: Arc<Store>, stop: impl Future<Output = ()>) -> usize {
    let Door { listener, tls, serves_nodes } = door;
    let mut forgetting = tokio::time::interval(FORGET_INTERVAL);
    forgetting.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (draining, drain_seen) = watch::channel(false);
    let mut scrubbing = JoinSet::new();
    scrubbing.spawn(scrub::run(Arc::clone(&store)));
    let places = Arc::new(Semaphore::new(store.options().connections_max));
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accept = async {
            let place = Arc::clone(&places).acquire_owned().await;
            let place = place.expect("the semaphore is never closed");
            (listener.accept().await, place)
        };
        tokio::select! {
            biased;
            () = &mut stop => break,
            // Ended connections are taken out, or they would pile up.
            Some(_) = connections.join_next() => {}
            now = forgetting.tick() => store.stages().forget_old(now.into_std()),
            (accepted, place) = accept => match accepted {
                Ok((stream, _)) => {
                    let (store, seen) = (Arc::clone(&store), drain_seen.clone());
                    let tls = tls.clone();
                    connections.spawn(async move {
                        let _place = place;
                        // Without it the last segment of an answer may wait for an
                        // acknowledgement. A socket that does not take the option works all the
                        // same.
                        let _ = stream.set_nodelay(true);
                        match tls {
                            None => connection(stream, store, serves_nodes, seen).await,
                            Some(tls) => {
                                // The client was told by an alert, and is waited for as for a head.
                                let patience = store.options().timeouts.head;
                                let shaken = tokio::time::timeout(patience, tls.accept(stream, &[]));
                                if let Ok(Ok(stream)) = shaken.await {
                                    connection(stream, store, serves_nodes, seen).await;
                                }
                            }
                        }
                    });
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    scrubbing.shutdown().await;
    // Nobody listens when no connection is open.
    let _ = draining.send(true);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(store.options().drain, all_ended).await;
    let cut = connections.len();
    connections.shutdown().await;
    cut
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    store: Arc<Store>,
    serves_nodes: bool,
    mut draining: watch::Receiver<bool>,
) {
    let phase = Arc::new(Phase::default());
    let io = Patient::new(stream, Arc::clone(&phase), store.options().timeouts.clone());
    let service = service_fn(|request| {
        let (store, busy) = (Arc::clone(&store), phase.busy());
        async move {
            let response = answer(&store, serves_nodes, request).await;
            Ok::<_, std::convert::Infallible>(response.map(|body| body.keeping(busy)))
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        // `Patient` knows better.
        .header_read_timeout(None)
        .max_buf_size(BUFFER_BYTES)
        .max_header_size(HEAD_BYTES_MAX)
        .serve_connection(io, service);
    let mut serving = pin!(serving);
    let told_to_end = async move {
        // An error says that the server is gone, and with it every reason to go on.
        drop(draining.wait_for(|draining| *draining).await);
    };
    // How a connection ends is its client's business: broken ones were counted by what they asked.
    tokio::select! {
        biased;
        _ = serving.as_mut() => {}
        () = told_to_end => {
            serving.as_mut().graceful_shutdown();
            let _ = serving.await;
        }
    }
}
