//! Makes the weights' pages part of the process while the caller does something else.
//!
//! The first look at a page of a mapped file costs a call into the system, thousands of them in the first step. A thread
//! begins at the other end of the plan, so that it and a step which starts at once meet in the middle.

use anser_model::{Op, Plan, WeightId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// What Linux maps at one look, unless it was told otherwise.
const LOOK_N_BYTES: usize = 64 << 10;

/// The thread; ends with its owner.
#[derive(Debug)]
pub(crate) struct Warmer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Warmer {
    /// Starts it. Where no thread can be had, the first step looks at the pages itself.
    pub(crate) fn start(plan: &Arc<Plan>) -> Warmer {
        let stop = Arc::new(AtomicBool::new(false));
        let (plan, stopped) = (plan.clone(), stop.clone());
        let look = move || {
            for weight in plan.nodes.iter().rev().filter_map(|node| matrix(&node.op)) {
                for page in plan.weight(weight).bytes().chunks(LOOK_N_BYTES) {
                    if stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    std::hint::black_box(page[0]);
                }
            }
        };
        Warmer { stop, thread: thread::Builder::new().name("anser-warm".into()).spawn(look).ok() }
    }
}

impl Drop for Warmer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say, and nothing in it panics.
            let _ = thread.join();
        }
    }
}

/// The matrix that an operation reads as a whole; of the embedding only some rows are.
fn matrix(op: &Op) -> Option<WeightId> {
    match op {
        Op::MatMul { weight, .. } => Some(*weight),
        Op::Embed { .. }
        | Op::LayerNorm { .. }
        | Op::TokenShift { .. }
        | Op::ValueResidual { .. }
        | Op::KeyControl { .. }
        | Op::Wkv7 { .. }
        | Op::NormBonusGate { .. }
        | Op::Select { .. } => None,
    }
}
