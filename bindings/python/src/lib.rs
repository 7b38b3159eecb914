//! The Python package `anser`: the private module `anser._anser`, whose names `anser/__init__.py` exports.
//!
//! Every call that computes releases the GIL. Arrays own the engine's memory: a `Vec` becomes an array without a copy.
//! The module has types of its own and does not show the engine's types to Python.

// To find out whether these types may be shared by threads, the compiler examines all types of wgpu, which are nested
// deeply.
#![recursion_limit = "256"]

mod arrays;
mod command;
mod detached;
mod error;
mod generation;
mod load;
mod lora;
mod memory;
mod model;
mod options;
mod prefix;
mod progress;
mod rerank;
mod service;
mod session;
mod side_by_side;
mod state;
mod tokenizer;
mod tokens;
mod values;

/// RWKV inference; import `anser`, not this module.
#[pyo3::pymodule(name = "_anser")]
mod python_module {
    /// The package's version.
    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "Python's name for it")]
    pub(crate) const __version__: &str = env!("CARGO_PKG_VERSION");

    #[pymodule_export]
    use crate::command::run_command;
    #[pymodule_export]
    use crate::generation::Generation;
    #[pymodule_export]
    use crate::load::load;
    #[pymodule_export]
    use crate::memory::{CacheStats, MemoryUse};
    #[pymodule_export]
    use crate::model::Model;
    #[pymodule_export]
    use crate::prefix::PrefixCache;
    #[pymodule_export]
    use crate::rerank::Reranker;
    #[pymodule_export]
    use crate::session::{Fed, Session};
    #[pymodule_export]
    use crate::state::State;
    #[pymodule_export]
    use crate::tokenizer::Tokenizer;
}
