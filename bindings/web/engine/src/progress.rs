//! Progress of loading, for a function of JavaScript.

use anser::OnLoad;
use std::cell::RefCell;
use std::ops::ControlFlow;
use wasm_bindgen::JsValue;

thread_local! {
    /// The functions of the loads that go on. A callback of the engine may be sent to other threads, which a function of JavaScript must
    /// not: so it knows only its place here.
    static LISTENERS: RefCell<Vec<Option<js_sys::Function>>> = const { RefCell::new(vec![]) };
}

/// A function that hears of progress for as long as this lives.
#[derive(Debug)]
pub(crate) struct Listener(usize);

impl Listener {
    pub(crate) fn new(function: js_sys::Function) -> Listener {
        LISTENERS.with_borrow_mut(|listeners| {
            listeners.push(Some(function));
            Listener(listeners.len() - 1)
        })
    }

    /// The engine's callback. If the function returns `true`, loading ends.
    pub(crate) fn on_load(&self) -> OnLoad {
        let place = self.0;
        OnLoad::new(move |progress| {
            let function = LISTENERS.with_borrow(|listeners| listeners.get(place).cloned().flatten());
            let (done, total) = (progress.n_bytes as f64, progress.total_n_bytes as f64);
            let told = function.map(|function| function.call2(&JsValue::NULL, &done.into(), &total.into()));
            match told.and_then(Result::ok).and_then(|told| told.as_bool()) {
                Some(true) => ControlFlow::Break(()),
                Some(false) | None => ControlFlow::Continue(()),
            }
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        LISTENERS.with_borrow_mut(|listeners| {
            if let Some(listener) = listeners.get_mut(self.0) {
                *listener = None;
            }
        });
    }
}
