//! Makes the weights' pages part of the process while the caller does something else.
//!
//! The first look at a page of a mapped file costs a call into the system, thousands of them in the first step. Threads
//! look ahead, in the plan's order. Loading waits for them a little: a small model's pages are all there when it returns,
//! while neither a large model nor a slow disk can hold it up.

use anser_model::{Op, Plan, Weight, WeightId};
use std::convert::Infallible;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What Linux maps at one look, at multiples of itself, unless it was told otherwise.
const LOOK_N_BYTES: usize = 64 << 10;
/// What a thread takes at a time.
const PIECE_N_BYTES: usize = 16 * LOOK_N_BYTES;
/// More do not help: the system's own locks are what they would wait for.
const MAX_N_THREADS: usize = 4;

/// How long loading waits: in this time two threads look at some 200 MB and more of a file in the system's cache.
const MAX_WAIT: Duration = WAIT_STEP.saturating_mul(5);
/// After how long it asks whether to wait on.
const WAIT_STEP: Duration = Duration::from_millis(1);
/// Pieces that must have been taken in that time: memory gives 20 and more to a thread, a disk 3.
const MIN_N_PIECES: usize = 8;

/// The threads; end with their owner.
#[derive(Debug)]
pub(crate) struct Warmer {
    work: Arc<Work>,
    threads: Vec<JoinHandle<()>>,
    /// Disconnected when the last thread has ended.
    ended: Receiver<Infallible>,
}

/// What the threads share with whoever steps.
#[derive(Debug)]
struct Work {
    plan: Arc<Plan>,
    /// Per weight: its elements if it is a vector, else empty.
    vectors: OnceLock<Vec<Vec<f32>>>,
    pieces: Vec<Piece>,
    /// The next piece that nobody has taken.
    next: AtomicUsize,
    stop: AtomicBool,
}

/// Some bytes of a matrix.
#[derive(Debug)]
struct Piece {
    weight: WeightId,
    bytes: Range<usize>,
}

impl Warmer {
    /// Starts at most `n_threads`. Where none can be had, the first step does their work itself.
    pub(crate) fn start(plan: &Arc<Plan>, n_threads: usize) -> Warmer {
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let work = Arc::new(Work { plan: plan.clone(), vectors: OnceLock::new(), pieces: pieces(plan), next, stop });
        let (alive, ended) = mpsc::channel();
        let start = |i| {
            let (work, alive) = (work.clone(), alive.clone());
            let run = move || {
                let start = Instant::now();
                if i == 0 {
                    work.vectors();
                }
                // One goes on after the wait; the others leave their cores to who waited.
                work.look(|| i == 0 || start.elapsed() < MAX_WAIT);
                drop(alive);
            };
            thread::Builder::new().name("anser-warm".into()).spawn(run).ok()
        };
        let threads = (0..n_threads.min(MAX_N_THREADS)).map_while(start).collect();
        Warmer { work, threads, ended }
    }

    /// Returns when all pages have been looked at, or after [`MAX_WAIT`], or as soon as they seem to come from a disk.
    pub(crate) fn wait(&self) {
        // Where there are no threads, there may be no clock either.
        if self.threads.is_empty() {
            return;
        }
        let (start, mut n_taken) = (Instant::now(), 0);
        // Nothing is ever sent: a wait ends with the last sender or with the time.
        while start.elapsed() < MAX_WAIT && self.ended.recv_timeout(WAIT_STEP) == Err(RecvTimeoutError::Timeout) {
            let n_before = std::mem::replace(&mut n_taken, self.work.next.load(Ordering::Relaxed));
            if n_taken - n_before < MIN_N_PIECES {
                return;
            }
        }
    }

    /// Per weight: its elements if it is a vector, else empty. Waits for the thread that makes them, or makes them.
    pub(crate) fn vectors(&self) -> &[Vec<f32>] {
        self.work.vectors()
    }
}

impl Drop for Warmer {
    fn drop(&mut self) {
        self.work.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It has nothing to say, and nothing in it panics.
            let _ = thread.join();
        }
    }
}

impl Work {
    /// Looks at pieces that nobody has taken, while there are any and `may_go_on`.
    fn look(&self, may_go_on: impl Fn() -> bool) {
        while !self.stop.load(Ordering::Relaxed)
            && may_go_on()
            && let Some(piece) = self.pieces.get(self.next.fetch_add(1, Ordering::Relaxed))
        {
            let bytes = &self.plan.weight(piece.weight).bytes()[piece.bytes.clone()];
            for at in looks(bytes) {
                std::hint::black_box(bytes[at]);
            }
        }
    }

    /// See [`Warmer::vectors`].
    fn vectors(&self) -> &[Vec<f32>] {
        let vector = |w: &Weight| if w.n_rows() == 1 { w.to_f32() } else { vec![] };
        self.vectors.get_or_init(|| self.plan.weights.iter().map(vector).collect())
    }
}

/// The matrices that operations read as a whole, in the plan's order; of the embedding only some rows are.
fn pieces(plan: &Plan) -> Vec<Piece> {
    let mut pieces = vec![];
    for weight in plan.nodes.iter().filter_map(|node| matrix(&node.op)) {
        let n_bytes = plan.weight(weight).n_bytes();
        let starts = (0..n_bytes).step_by(PIECE_N_BYTES);
        pieces.extend(starts.map(|start| Piece { weight, bytes: start..n_bytes.min(start + PIECE_N_BYTES) }));
    }
    pieces
}

/// Where to look so that no page is missed: the first byte, and all others that lie at multiples of [`LOOK_N_BYTES`] in
/// memory.
fn looks(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let start = bytes.as_ptr().addr().wrapping_neg() % LOOK_N_BYTES;
    let first = (start > 0 && !bytes.is_empty()).then_some(0);
    first.into_iter().chain((start..bytes.len()).step_by(LOOK_N_BYTES))
}

/// The matrix that an operation reads as a whole.
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
        | Op::Mix { .. }
        | Op::Wkv4 { .. }
        | Op::Wkv6 { .. }
        | Op::NormGate { .. }
        | Op::Gate { .. }
        | Op::TokenMatrix { .. }
        | Op::Select { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anser_format::ModelFile;

    const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/demo-q8_0.gguf");

    fn plan(path: impl AsRef<std::path::Path>) -> Arc<Plan> {
        Arc::new(anser_model::load(&ModelFile::open(path).unwrap()).unwrap().1)
    }

    #[test]
    fn every_stretch_of_memory_is_looked_at_once() {
        let memory = vec![0; 4 * LOOK_N_BYTES];
        let stretch = |bytes: &[u8], at: usize| (bytes.as_ptr().addr() + at) / LOOK_N_BYTES;
        for (start, end) in [(0, 0), (0, 1), (5, 5), (1, LOOK_N_BYTES), (0, memory.len()), (77, memory.len() - 99)] {
            let bytes = &memory[start..end];
            let mut expected: Vec<usize> = (0..bytes.len()).map(|at| stretch(bytes, at)).collect();
            expected.dedup();
            let found: Vec<usize> = looks(bytes).map(|at| stretch(bytes, at)).collect();
            assert_eq!(found, expected, "bytes {start} to {end}");
        }
    }

    #[test]
    fn pieces_are_all_of_the_matrices() {
        let plan = plan(DEMO);
        let mut n_bytes = vec![0; plan.weights.len()];
        for Piece { weight, bytes } in pieces(&plan) {
            assert_eq!(bytes.start, n_bytes[weight.index()], "{}", plan.weight(weight).name());
            n_bytes[weight.index()] = bytes.end;
        }
        for (weight, n_bytes) in plan.weights.iter().zip(n_bytes) {
            let is_whole = weight.n_rows() > 1 && !weight.name().starts_with("emb.");
            assert_eq!(n_bytes, if is_whole { weight.bytes().len() } else { 0 }, "{}", weight.name());
        }
    }

    /// Linux tells how much of a mapping is part of the process.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_matrices_are_part_of_the_process_before_the_first_step() {
        let path = std::env::temp_dir().join(format!("anser-warm-{}.gguf", std::process::id()));
        std::fs::copy(DEMO, &path).unwrap();
        // All in the system's cache: a look maps only what is there.
        assert_eq!(std::fs::read(&path).unwrap().len(), std::fs::read(DEMO).unwrap().len());
        let plan = plan(&path);
        let n_resident = || {
            let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let map = maps.split_once(path.to_str().unwrap()).unwrap().1;
            let kib = map.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
            kib.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
        };
        let n_matrix_bytes: usize = pieces(&plan).iter().map(|piece| piece.bytes.len()).sum();
        assert!(n_resident() < n_matrix_bytes / 4, "{} of {n_matrix_bytes} before", n_resident());
        let mut warmer = Warmer::start(&plan, 2);
        for thread in warmer.threads.drain(..) {
            thread.join().unwrap();
        }
        assert!(n_resident() >= n_matrix_bytes, "{} of {n_matrix_bytes}", n_resident());
        std::fs::remove_file(&path).unwrap();
    }
}
