//! Accepts connections, and ends them when the server ends.

use crate::app::{App, router};
use crate::connection::{Connection, LocalAddress};
use crate::options::{Options, ServedModel};
use crate::served::{Served, now};
use crate::states::{NamedState, check_text};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tower_service::Service;

/// The most headers of a request, and the most bytes of them.
const MAX_HEADERS: usize = 100;
const MAX_HEADER_N_BYTES: usize = 16 << 10;
/// How long the server waits before it accepts again after the system refused a connection, for example for lack of file numbers.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long answers may take to reach their clients after the engines have ended.
const LAST_WRITES: Duration = Duration::from_secs(2);

/// Where a server listens.
#[derive(Debug)]
pub enum Listener {
    /// A port of a network.
    Tcp(std::net::TcpListener),
    /// A socket in the file system.
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixListener),
}

/// The reason for which a server does not start or ends.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was asked for.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// A model cannot be served.
    #[error(transparent)]
    Model(#[from] anser::Error),
    /// An option cannot be followed.
    #[error("{0}")]
    Option(String),
    /// An engine has ended by itself, since its device failed too often.
    #[error("the device failed and the model could not be loaded again: see the log; the server has ended")]
    EngineEnded,
}

/// Tells a server to end. Clones tell the same server.
#[derive(Debug, Clone)]
pub struct Stop(watch::Sender<bool>);

impl Stop {
    /// The server accepts no more work, completes what runs within the time that it was given, and ends.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// A server that is about to run.
#[derive(Debug)]
pub struct Server {
    app: Arc<App>,
    router: Router,
    listener: Listener,
    stop: watch::Sender<bool>,
}

impl Server {
    /// A server of `models` on `listener`, which already listens. Their engines start here.
    ///
    /// # Errors
    /// A model without a tokenizer or a name, two models or states of one name, or an option that cannot be followed.
    pub fn new(mut models: Vec<ServedModel>, listener: Listener, options: Options) -> Result<Server, ServeError> {
        let mut names: Vec<&String> = models.iter().flat_map(|model| &model.names).collect();
        names.sort_unstable();
        if let Some([name, _]) = names.array_windows().find(|[a, b]| a == b) {
            return Err(ServeError::Option(format!("two models are called {name:?}: name them with --alias")));
        }
        if models.iter().any(|model| model.names.is_empty()) {
            return Err(ServeError::Option("a model has no name by which requests could ask for it".into()));
        }
        let mut states: Vec<NamedState> = vec![];
        for model in &mut models {
            let of_model = model.names.first().cloned().unwrap_or_default();
            for (name, loaded) in std::mem::take(&mut model.states) {
                check_text(&name).map_err(|reason| ServeError::Option(format!("the state {name:?}: {reason}")))?;
                if states.iter().any(|state| state.name == name) {
                    return Err(ServeError::Option(format!(
                        "two states are called {name:?}: give each a name of its own"
                    )));
                }
                states.push(NamedState::of_file(name, of_model.clone(), now(), loaded));
            }
        }
        let models = models.into_iter().map(Served::start).collect::<Result<Vec<_>, _>>()?;
        let origins = options.origins.clone();
        let app = Arc::new(App::new(models, states, options));
        let router = router(app.clone(), &origins).map_err(ServeError::Option)?;
        Ok(Server { app, router, listener, stop: watch::Sender::new(false) })
    }

    /// What tells this server to end.
    pub fn stop_handle(&self) -> Stop {
        Stop(self.stop.clone())
    }

    /// Serves until [`Stop::stop`] is called, and then completes what runs within `drain_time`. Blocks.
    ///
    /// # Errors
    /// The system starts no threads or gives no connections, or an engine has ended by itself.
    pub fn run(self, drain_time: Duration) -> Result<(), ServeError> {
        let io = |what| move |source| ServeError::Io { what, source };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("anser-serve")
            .enable_all()
            .build()
            .map_err(io("cannot start threads"))?;
        let served = runtime.block_on(self.serve(drain_time));
        runtime.shutdown_timeout(Duration::from_secs(1));
        served
    }

    async fn serve(self, drain_time: Duration) -> Result<(), ServeError> {
        let Server { app, router, listener, stop } = self;
        let connections = Connections {
            app: app.clone(),
            router,
            places: Arc::new(Semaphore::new(app.bounds.max_connections)),
            stop: stop.clone(),
        };
        let io = |what| move |source| ServeError::Io { what, source };
        let accepting = match listener {
            Listener::Tcp(listener) => {
                listener.set_nonblocking(true).map_err(io("cannot listen"))?;
                let listener = TcpListener::from_std(listener).map_err(io("cannot listen"))?;
                let connections = connections.clone();
                tokio::spawn(async move {
                    connections
                        .accept(
                            || listener.accept(),
                            |stream, _: &SocketAddr| {
                                // Without it small events would wait for one another.
                                let _ = stream.set_nodelay(true);
                                Some(stream.local_addr().map_or(Ipv4Addr::UNSPECIFIED.into(), |address| address.ip()))
                            },
                        )
                        .await;
                })
            }
            #[cfg(unix)]
            Listener::Unix(listener) => {
                listener.set_nonblocking(true).map_err(io("cannot listen"))?;
                let listener = tokio::net::UnixListener::from_std(listener).map_err(io("cannot listen"))?;
                let connections = connections.clone();
                tokio::spawn(async move { connections.accept(|| listener.accept(), |_, _| None).await })
            }
        };
        let ended_by_itself = tokio::select! {
            () = is_stopped(&stop) => false,
            () = engine_ends(&app) => true,
        };
        // New connections still hear that the server is ending, until what runs is complete.
        app.drain();
        stop.send_replace(true);
        let deadline = Instant::now() + drain_time;
        let engines: Vec<_> = app.models.iter().map(|served| served.engine.clone()).collect();
        let drained = engines.into_iter().map(|engine| tokio::task::spawn_blocking(move || engine.drain(deadline)));
        for engine in drained.collect::<Vec<_>>() {
            // A panic of the thread is the end of the engine, too.
            let _ = engine.await;
        }
        accepting.abort();
        connections.finish().await;
        if ended_by_itself { Err(ServeError::EngineEnded) } else { Ok(()) }
    }
}

/// Ends when the server is told to end.
async fn is_stopped(stop: &watch::Sender<bool>) {
    // The sender lives, so that the wait ends in no other way.
    let _ = stop.subscribe().wait_for(|&stops| stops).await;
}

/// Ends when an engine has ended by itself.
async fn engine_ends(app: &App) {
    let has_ended = || app.models.iter().any(|served| served.engine.has_ended());
    while !has_ended() {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// The connections of a server.
#[derive(Debug, Clone)]
struct Connections {
    app: Arc<App>,
    router: Router,
    /// A place for each connection that may be open.
    places: Arc<Semaphore>,
    stop: watch::Sender<bool>,
}

impl Connections {
    /// Accepts connections for ever, each when there is a place for it.
    async fn accept<S, A, F>(self, next: impl Fn() -> F, local_ip: impl Fn(&S, &A) -> Option<IpAddr>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: Future<Output = io::Result<(S, A)>>,
    {
        loop {
            let Ok(place) = self.places.clone().acquire_owned().await else { return };
            match next().await {
                Ok((stream, address)) => {
                    let local = LocalAddress(local_ip(&stream, &address));
                    let connection = self.clone().serve(stream, local);
                    tokio::spawn(async move {
                        connection.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    log::warn!("a connection cannot be accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Serves one connection until its client or the server ends it.
    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, local: LocalAddress) {
        let bounds = &self.app.bounds;
        let router = self.router.clone();
        // A connection that comes while the server ends is told so, and is closed then.
        let comes_late = *self.stop.borrow();
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(local);
            Service::<Request<Body>>::call(&mut router.clone(), request)
        });
        let io = TokioIo::new(Connection::new(stream, bounds.write_time));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(bounds.header_time)
            .keep_alive(!comes_late)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEADER_N_BYTES)
            .serve_connection(io, service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = is_stopped(&self.stop), if !comes_late => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            log::debug!("a connection ended: {error}");
        }
    }

    /// Waits until all connections have ended, for a short time: their answers are complete.
    async fn finish(self) {
        let all = u32::try_from(self.app.bounds.max_connections).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(LAST_WRITES, self.places.acquire_many(all)).await;
    }
}
