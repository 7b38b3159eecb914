//! What becomes of requests when a step fails.

use super::Scheduler;
use crate::delivery::channel;
use crate::event::{Event, Failure};
use crate::limits::{Limits, Reload};
use crate::queue::{Shared, Waiting};
use crate::request::Request;
use anser::{Device, Error, GenerateOptions, GpuError, Model, Options, SamplerOptions};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

/// How a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Panic,
    DeviceLost,
    /// Another error, of which the device recovers.
    Other,
}

impl Scheduler {
    pub(super) fn fail_for_a_test(&mut self) -> Result<(), Error> {
        match self.fault.take() {
            None => Ok(()),
            Some(Fault::Panic) => panic!("a test asked for it"),
            Some(Fault::DeviceLost) => {
                Err(Error::Gpu(GpuError::Lost { adapter: "a test".into(), reason: "asked for".into() }))
            }
            Some(Fault::Other) => Err(Error::Option { option: "a test", reason: "asked for".into() }),
        }
    }
}

fn tiny() -> Model {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/tiny/tiny-v7.st");
    Model::load(path, &Options { device: Device::Cpu, n_threads: Some(1), ..Options::default() }).unwrap()
}

fn submit(shared: &Shared, prompt: u32) -> Receiver<Event> {
    let (on_event, events) = channel(1000);
    let options = GenerateOptions {
        sampler: SamplerOptions::greedy(),
        max_tokens: 5,
        stop_tokens: Some(vec![]),
        ..Default::default()
    };
    let request = Request::generate(vec![prompt], options);
    let waiting =
        Waiting { request, on_event: Box::new(on_event), is_cancelled: Default::default(), since: Instant::now() };
    shared.enter(waiting, 100, 100).unwrap();
    events
}

fn last(events: &Receiver<Event>) -> Event {
    events.iter().last().expect("an event")
}

/// What runs fails and says why; what comes after is served, by the model that was loaded again where that is needed.
#[test]
fn a_step_that_fails_fails_what_runs_and_the_engine_goes_on() {
    for fault in [Fault::Panic, Fault::DeviceLost, Fault::Other] {
        let model = tiny();
        let shared = Arc::new(Shared::new(model.clone(), 4));
        let limits = Limits { reload: Some(Reload::new(|| Ok(tiny()))), ..Limits::default() };
        let mut scheduler = Scheduler::new(model, limits, 4, shared.clone());
        scheduler.fault = Some(fault);
        let failing = [submit(&shared, 1), submit(&shared, 2)];
        let thread = std::thread::spawn(move || scheduler.run());
        for events in &failing {
            let Event::Failed(failure) = last(events) else { panic!("{fault:?}: expected a failure") };
            let is_expected = match failure {
                Failure::DeviceLost { ref reason } => fault != Fault::Other && reason.contains("asked for"),
                Failure::Step { ref reason } => fault == Fault::Other && reason.contains("asked for"),
                _ => false,
            };
            assert!(is_expected, "{fault:?}: {failure:?}");
        }
        let Event::Done(usage) = last(&submit(&shared, 3)) else { panic!("{fault:?}: expected an end") };
        assert_eq!(usage.n_generated, 5);
        assert_eq!(shared.lock().stats.n_reloads, u64::from(fault != Fault::Other));
        shared.lock().drains_by = Some(Instant::now());
        shared.wake();
        thread.join().unwrap();
        assert!(shared.lock().has_ended);
    }
}

/// Without a way to load the model again, an engine whose device is lost ends: what waits fails, and nothing more is taken in.
#[test]
fn an_engine_that_cannot_recover_ends() {
    let model = tiny();
    let shared = Arc::new(Shared::new(model.clone(), 1));
    let mut scheduler = Scheduler::new(model, Limits::default(), 1, shared.clone());
    scheduler.fault = Some(Fault::DeviceLost);
    let (running, waiting) = (submit(&shared, 1), submit(&shared, 2));
    scheduler.run();
    assert!(matches!(last(&running), Event::Failed(Failure::DeviceLost { .. })));
    assert!(matches!(last(&waiting), Event::Failed(Failure::Draining)));
    let (on_event, _events) = channel(1);
    let waiting = Waiting {
        request: Request::generate(vec![1], GenerateOptions::default()),
        on_event: Box::new(on_event),
        is_cancelled: Default::default(),
        since: Instant::now(),
    };
    assert!(shared.enter(waiting, 100, 100).is_err());
}
