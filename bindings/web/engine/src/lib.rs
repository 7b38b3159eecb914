//! The engine for JavaScript: models and sessions as handles, which the worker of the npm package owns.
//!
//! Numbers cross as typed arrays, options and reports as JSON. Nothing here waits for anything but the device: what a call does
//! takes a step or less, so that the worker looks at its messages between any two calls. Errors are JavaScript errors with a `code`.

// The compiler examines all types of wgpu, which are nested more than 128 levels deep.
#![recursion_limit = "256"]

mod error;
mod file;
mod model;
mod options;
mod progress;
mod session;

pub use error::code;
pub use file::FileBuilder;
pub use model::Model;
pub use session::Session;

use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn console_error(text: &str);
}

/// Writes panics to the console: after one, WebAssembly knows only that it cannot go on.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|info| console_error(&info.to_string())));
}

/// The version of the engine.
#[wasm_bindgen]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").into()
}

/// Bytes of memory that the engine has taken.
#[wasm_bindgen]
pub fn memory_n_bytes() -> f64 {
    #[cfg(target_arch = "wasm32")]
    return (core::arch::wasm32::memory_size(0) * 65_536) as f64;
    // Checks of types run on other platforms, too.
    #[cfg(not(target_arch = "wasm32"))]
    0.0
}

/// The instructions that the kernels of the CPU use.
#[wasm_bindgen(js_name = instructions)]
pub fn instructions() -> String {
    anser_cpu::Cpu::instructions().into()
}

/// The module itself, which threads start from. It is compiled once.
#[wasm_bindgen]
pub fn compiled_module() -> JsValue {
    wasm_bindgen::module()
}

/// Lends the calling thread to the processor's executor, for as long as the module is there. Returns at once in a build without threads.
#[wasm_bindgen]
pub fn lend_thread() {
    #[cfg(all(target_arch = "wasm32", target_feature = "atomics"))]
    anser_cpu::lend_thread();
}

/// The number of lent threads that have nothing to do.
#[wasm_bindgen]
pub fn n_lent_threads() -> usize {
    #[cfg(all(target_arch = "wasm32", target_feature = "atomics"))]
    return anser_cpu::n_lent_threads();
    #[cfg(not(all(target_arch = "wasm32", target_feature = "atomics")))]
    0
}

/// Tells the executor that a lent thread has crashed, so that it does not wait for it.
#[wasm_bindgen]
pub fn report_crashed_thread() {
    #[cfg(all(target_arch = "wasm32", target_feature = "atomics"))]
    anser_cpu::report_crashed_thread();
}
