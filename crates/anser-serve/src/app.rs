//! What all routes share, and the table of routes.

use crate::error::ApiError;
use crate::guard;
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::options::{Bounds, Options};
use crate::page::Page;
use crate::responses::ResponseStore;
use crate::routes;
use crate::served::Served;
use crate::states::{NamedState, StateStore};
use anser::Grammar;
use anser_engine::Tenant;
use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};

/// What all requests share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) models: Vec<Arc<Served>>,
    pub(crate) keys: Keys,
    pub(crate) host_names: Vec<String>,
    pub(crate) extra_grammars: bool,
    /// The page for people, unless the server has none.
    pub(crate) page: Option<Page>,
    pub(crate) bounds: Bounds,
    pub(crate) metrics: Metrics,
    pub(crate) responses: ResponseStore,
    pub(crate) states: StateStore,
    /// Held by the request whose grammar is being compiled.
    compiling: Mutex<()>,
    is_draining: AtomicBool,
}

/// Whose request it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller(pub(crate) Tenant);

impl App {
    pub(crate) fn new(models: Vec<Served>, states: Vec<NamedState>, options: Options) -> App {
        let Options { keys, host_names, origins: _, extra_grammars, has_page, bounds } = options;
        App {
            models: models.into_iter().map(Arc::new).collect(),
            keys,
            host_names,
            extra_grammars,
            page: has_page.then(Page::new),
            metrics: Metrics::new(),
            responses: ResponseStore::new(&bounds),
            states: StateStore::new(bounds.states_n_bytes, states),
            bounds,
            compiling: Mutex::new(()),
            is_draining: AtomicBool::new(false),
        }
    }

    /// The model that a request names; the only one, but for those with adapters, if it names none.
    pub(crate) fn served(&self, name: Option<&str>) -> Result<&Arc<Served>, ApiError> {
        let names = || {
            let names: Vec<String> =
                self.models.iter().flat_map(|m| &m.names).map(|name| format!("{name:?}")).collect();
            names.join(", ")
        };
        let Some(name) = name else {
            return match &self.models.iter().filter(|served| !served.is_adapted).collect::<Vec<_>>()[..] {
                &[only] => Ok(only),
                _ => Err(ApiError::invalid("model", format!("model: expected one of {}", names()))),
            };
        };
        self.models.iter().find(|served| served.names.iter().any(|known| known == name)).ok_or_else(|| {
            let short: String = name.chars().take(100).collect();
            let message = format!("the model {short:?} does not exist: this server has {}", names());
            ApiError::new(StatusCode::NOT_FOUND, Some("model_not_found"), message).at("model")
        })
    }

    /// A grammar that is compiled for the model, so that its text begins at once. Takes the caller's time, and that of other grammars
    /// before it, of which one is compiled at a time.
    ///
    /// Errors: a grammar that cannot be enforced.
    pub(crate) fn compiled(&self, served: &Served, grammar: Option<Grammar>) -> Result<Option<Grammar>, ApiError> {
        if let Some(grammar) = &grammar {
            let began = Instant::now();
            let turn = self.compiling.lock().unwrap_or_else(PoisonError::into_inner);
            grammar.prepare(&served.model)?;
            drop(turn);
            self.metrics.compiled(began.elapsed());
        }
        Ok(grammar)
    }

    pub(crate) fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }
}

/// The routes of a server.
///
/// Errors: an origin that is no text for a header.
pub(crate) fn router(app: Arc<App>, origins: &[String]) -> Result<Router, String> {
    let paths = app.page.iter().flat_map(Page::paths);
    let page = paths.fold(Router::new(), |router, path| router.route(path, get(routes::page::file)));
    let router = page
        .route("/health", get(routes::health::health))
        .route("/v1/models", get(routes::models::list))
        .route("/models", get(routes::models::list))
        .route("/v1/models/{id}", get(routes::models::one))
        .route("/v1/chat/completions", post(routes::chat::create))
        .route("/v1/completions", post(routes::completions::create))
        .route("/v1/embeddings", post(routes::embeddings::create))
        .route("/v1/rerank", post(routes::rerank::create))
        .route("/rerank", post(routes::rerank::create))
        .route("/v1/responses", post(routes::responses::create))
        .route("/v1/responses/{id}", get(routes::responses::one).delete(routes::responses::delete))
        .route("/v1/responses/{id}/input_items", get(routes::responses::input_items))
        .route("/v1/states", get(routes::states::list).post(routes::states::create))
        .route("/v1/states/{id}", get(routes::states::one).delete(routes::states::delete))
        .route("/v1/states/{id}/file", get(routes::states::download).put(routes::states::upload))
        .route("/tokenize", post(routes::tokens::tokenize))
        .route("/detokenize", post(routes::tokens::detokenize))
        .route("/apply-template", post(routes::tokens::apply_template))
        .route("/props", get(routes::health::props))
        .route("/metrics", get(routes::health::metrics))
        .fallback(guard::unknown_route)
        .method_not_allowed_fallback(guard::wrong_method);
    let router =
        router.layer(from_fn_with_state(app.clone(), guard::check)).layer(CatchPanicLayer::custom(guard::panicked));
    let router = match origins.is_empty() {
        true => router,
        false => router.layer(cors(origins)?),
    };
    Ok(router.layer(from_fn_with_state(app.clone(), guard::watch)).with_state(app))
}

/// Lets web pages of `origins` ask, and no others.
fn cors(origins: &[String]) -> Result<CorsLayer, String> {
    let origin = |origin: &String| {
        HeaderValue::from_str(origin).map_err(|_| format!("the origin {origin:?} is no text for a header"))
    };
    let origins = origins.iter().map(origin).collect::<Result<Vec<_>, _>>()?;
    Ok(CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, HeaderName::from_static("x-api-key")])
        .expose_headers([guard::REQUEST_ID, HeaderName::from_static("x-anser-seed"), header::RETRY_AFTER]))
}
