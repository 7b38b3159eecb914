//! Counts and times in Prometheus' text format. No label has a text of a user.

use crate::served::Served;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The least upper bounds of times, in seconds.
const SECONDS: [f64; 15] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0];

/// The counts of a server.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<RouteLabel, Histogram, fn() -> Histogram>,
    pub(crate) prompt_tokens: Counter,
    pub(crate) cached_tokens: Counter,
    pub(crate) generated_tokens: Counter,
    queue_seconds: Histogram,
    first_token_seconds: Histogram,
    per_token_seconds: Histogram,
    compile_seconds: Histogram,
    cancelled: Family<WhyLabel, Counter>,
    running: Gauge,
    waiting: Gauge,
    rows: Gauge,
    max_rows: Gauge,
    steps: Counter,
    reloads: Counter,
    cache_hits: Counter,
    cache_queries: Counter,
    states_bytes: Family<WhereLabel, Gauge>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: Route,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: Route,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WhyLabel {
    why: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WhereLabel {
    r#where: &'static str,
}

/// The pattern of a route, such as `/v1/models/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Route(pub(crate) String);

impl EncodeLabelValue for Route {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.0.as_str(), encoder)
    }
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        let mut registry = Registry::with_prefix("anser");
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version of the server", build);
        let metrics = Metrics {
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(seconds as fn() -> Histogram),
            prompt_tokens: Counter::default(),
            cached_tokens: Counter::default(),
            generated_tokens: Counter::default(),
            queue_seconds: seconds(),
            first_token_seconds: seconds(),
            per_token_seconds: seconds(),
            compile_seconds: seconds(),
            cancelled: Family::default(),
            running: Gauge::default(),
            waiting: Gauge::default(),
            rows: Gauge::default(),
            max_rows: Gauge::default(),
            steps: Counter::default(),
            reloads: Counter::default(),
            cache_hits: Counter::default(),
            cache_queries: Counter::default(),
            states_bytes: Family::default(),
            registry,
        };
        metrics.registered()
    }

    fn registered(mut self) -> Metrics {
        let registry = &mut self.registry;
        registry.register("requests", "Requests answered, by route and status", self.requests.clone());
        let time = "Time from a request's headers to those of its answer";
        registry.register_with_unit("request", time, Unit::Seconds, self.request_seconds.clone());
        registry.register("prompt_tokens", "Tokens of prompts", self.prompt_tokens.clone());
        let cached = "Tokens of prompts whose state was cached";
        registry.register("prompt_tokens_cached", cached, self.cached_tokens.clone());
        registry.register("generation_tokens", "Tokens drawn", self.generated_tokens.clone());
        registry.register_with_unit("queue", "Time in the queue", Unit::Seconds, self.queue_seconds.clone());
        let first = "Time from a request's acceptance to its first token";
        registry.register_with_unit("time_to_first_token", first, Unit::Seconds, self.first_token_seconds.clone());
        let each = "Mean time between the tokens of a request's texts";
        registry.register_with_unit("time_per_output_token", each, Unit::Seconds, self.per_token_seconds.clone());
        let compile = "Time to compile the grammar of a request";
        registry.register_with_unit("grammar_compile", compile, Unit::Seconds, self.compile_seconds.clone());
        registry.register("cancelled", "Requests that ended early, by reason", self.cancelled.clone());
        registry.register("requests_running", "Requests with a place on the device", self.running.clone());
        registry.register("requests_waiting", "Requests in the queue", self.waiting.clone());
        registry.register("rows_running", "Sequences with a state on the device", self.rows.clone());
        registry.register("rows_max", "The most sequences with a state on the device", self.max_rows.clone());
        registry.register("steps", "Steps computed", self.steps.clone());
        registry.register("device_lost", "Times that a model was loaded again", self.reloads.clone());
        registry.register("prefix_cache_hits", "Prompts whose beginning was cached", self.cache_hits.clone());
        registry.register("prefix_cache_queries", "Prompts looked up in the cache", self.cache_queries.clone());
        registry.register("states_bytes", "Bytes of cached states, by place", self.states_bytes.clone());
        self
    }

    /// Notes that a request was answered.
    pub(crate) fn answered(&self, route: Route, status: u16, elapsed: Duration) {
        self.request_seconds.get_or_create(&RouteLabel { route: route.clone() }).observe(elapsed.as_secs_f64());
        self.requests.get_or_create(&RequestLabels { route, status }).inc();
    }

    pub(crate) fn left_queue(&self, waited: Duration) {
        self.queue_seconds.observe(waited.as_secs_f64());
    }

    pub(crate) fn first_token(&self, elapsed: Duration) {
        self.first_token_seconds.observe(elapsed.as_secs_f64());
    }

    pub(crate) fn per_token(&self, mean: Duration) {
        self.per_token_seconds.observe(mean.as_secs_f64());
    }

    pub(crate) fn compiled(&self, elapsed: Duration) {
        self.compile_seconds.observe(elapsed.as_secs_f64());
    }

    /// Notes that a request ended early.
    pub(crate) fn cancelled(&self, why: &'static str) {
        self.cancelled.get_or_create(&WhyLabel { why }).inc();
    }

    /// The text of all counts.
    pub(crate) fn text(&self, models: &[Arc<Served>]) -> Result<String, std::fmt::Error> {
        let stats: Vec<_> = models.iter().map(|served| served.engine.stats()).collect();
        let sum = |of: fn(&anser_engine::Stats) -> usize| stats.iter().map(of).sum::<usize>() as i64;
        self.running.set(sum(|stats| stats.n_running));
        self.waiting.set(sum(|stats| stats.n_waiting));
        self.rows.set(sum(|stats| stats.n_rows));
        self.max_rows.set(sum(|stats| stats.max_rows));
        // Engines count these themselves.
        let set = |counter: &Counter, value: u64| counter.inner().store(value, Ordering::Relaxed);
        set(&self.steps, stats.iter().map(|stats| stats.n_steps).sum());
        set(&self.reloads, stats.iter().map(|stats| stats.n_reloads).sum());
        let caches = || stats.iter().flat_map(|stats| [stats.host_cache, stats.device_cache, stats.disk_cache]);
        let n_hits: u64 = caches().map(|cache| cache.n_hits).sum();
        set(&self.cache_hits, n_hits);
        set(&self.cache_queries, n_hits + caches().map(|cache| cache.n_misses).sum::<u64>());
        for (place, n_bytes) in [
            ("device", sum(|stats| stats.device_cache.n_bytes)),
            ("host", sum(|stats| stats.host_cache.n_bytes)),
            ("disk", sum(|stats| stats.disk_cache.n_bytes)),
        ] {
            self.states_bytes.get_or_create(&WhereLabel { r#where: place }).set(n_bytes);
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
