//! A device that is lost while the server answers.

use crate::harness::{ANN, Running, json_request, limits, options};
use anser::{Model, Options};
use anser_engine::{Limits, Reload};
use serde_json::json;
use std::time::Duration;

/// The first adapter, Mesa's software one where there is no other.
fn gpu() -> Options {
    Options { device: "gpu:0".parse().unwrap(), ..Options::default() }
}

#[test]
fn a_lost_device_fails_what_runs_and_the_next_request_is_served_by_another() {
    let on_gpu = gpu();
    let model = Model::embedded(&on_gpu).unwrap();
    let device = anser::keep_open(&on_gpu).unwrap().expect("a GPU was asked for");
    let reload = Reload::new({
        let on_gpu = on_gpu.clone();
        move || Model::embedded(&on_gpu)
    });
    let server = Running::of(model, options(), Limits { reload: Some(reload), ..limits() }, Duration::ZERO);
    let body = json!({"prompt": "In the morning", "max_tokens": 6, "temperature": 0});
    let before = server.post("/v1/completions", &body).ok();

    // The end of a document is forbidden, so that the text goes on until the device is gone.
    let endless = json!({"prompt": "A little", "max_tokens": 100_000, "stream": true, "logit_bias": {"0": -100}});
    let mut streaming = server.send(&json_request(ANN, "/v1/completions", &endless));
    streaming.read_until("\"text\":\" ");
    device.destroy();
    let events = streaming.rest().events();
    let last = events.last().expect("an event");
    assert!(last.contains("\"code\":\"device_lost\""), "{last}");

    let after = server.post("/v1/completions", &body).ok();
    assert_eq!(after["choices"], before["choices"]);
    assert_eq!(server.metric("anser_device_lost_total"), 1.0);
    assert_eq!(server.get("/health").status, 200);
}
