//! Touches the pages of the weights ahead of the first step.
//!
//! The first access to a page of a mapped file is a page fault, and the first step would have thousands of them.
//! Threads touch the pages beforehand, in the plan's order. Loading waits for them for a few milliseconds: all pages of
//! a small model are mapped when it returns, and neither a large model nor a slow disk can delay it further.

use anser_model::{Op, Plan, Weight, WeightId};
use std::convert::Infallible;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The bytes that Linux maps at one page fault, unless it is configured otherwise (`fault_around_bytes`). They begin at
/// a multiple of this number.
const FAULT_AROUND_N_BYTES: usize = 64 << 10;
/// The bytes that a thread takes at a time.
const CHUNK_N_BYTES: usize = 16 * FAULT_AROUND_N_BYTES;
/// The most threads. More would wait for the locks of the system.
const MAX_N_THREADS: usize = 4;

/// The longest time that loading waits: two threads touch 200 MB or more of a file in the system's cache meanwhile.
const MAX_WAIT: Duration = WAIT_STEP.saturating_mul(5);
/// The time after which loading decides anew whether to wait on.
const WAIT_STEP: Duration = Duration::from_millis(1);
/// The chunks that threads must have taken within [`WAIT_STEP`]. A thread takes 20 or more from memory and 3 from a disk.
const MIN_N_CHUNKS: usize = 8;

/// The threads that touch pages. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Warmer {
    work: Arc<Work>,
    threads: Vec<JoinHandle<()>>,
    /// Disconnected once the last thread has ended.
    ended: Receiver<Infallible>,
}

/// The data that these threads share with the executor's steps.
#[derive(Debug)]
struct Work {
    plan: Arc<Plan>,
    /// For each weight, its elements if it is a vector, else none.
    vectors: OnceLock<Vec<Vec<f32>>>,
    chunks: Vec<Chunk>,
    /// The index of the first chunk that no thread has taken.
    next: AtomicUsize,
    stop: AtomicBool,
}

/// A range of bytes of a matrix.
#[derive(Debug)]
struct Chunk {
    weight: WeightId,
    bytes: Range<usize>,
}

impl Warmer {
    /// Starts at most `n_threads` threads. If the system starts none, the first step meets the page faults itself.
    pub(crate) fn start(plan: &Arc<Plan>, n_threads: usize) -> Warmer {
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let work = Arc::new(Work { plan: plan.clone(), vectors: OnceLock::new(), chunks: chunks(plan), next, stop });
        let (alive, ended) = mpsc::channel();
        let start = |i| {
            let (work, alive) = (work.clone(), alive.clone());
            let run = move || {
                let start = Instant::now();
                if i == 0 {
                    work.vectors();
                }
                // One thread goes on after the wait; the others leave their cores to the first step.
                work.touch(|| i == 0 || start.elapsed() < MAX_WAIT);
                drop(alive);
            };
            thread::Builder::new().name("anser-warm".into()).spawn(run).ok()
        };
        let threads = (0..n_threads.min(MAX_N_THREADS)).map_while(start).collect();
        Warmer { work, threads, ended }
    }

    /// Returns when the threads have touched all pages, or after [`MAX_WAIT`], or as soon as the pages seem to come
    /// from a disk.
    pub(crate) fn wait(&self) {
        // A platform without threads may have no clock either.
        if self.threads.is_empty() {
            return;
        }
        let (start, mut n_taken) = (Instant::now(), 0);
        // No thread ever sends a message: a wait ends when the last sender is dropped, or after its time.
        while start.elapsed() < MAX_WAIT && self.ended.recv_timeout(WAIT_STEP) == Err(RecvTimeoutError::Timeout) {
            let n_before = std::mem::replace(&mut n_taken, self.work.next.load(Ordering::Relaxed));
            if n_taken - n_before < MIN_N_CHUNKS {
                return;
            }
        }
    }

    /// For each weight, its elements if it is a vector, else none. If no thread has copied them yet, this call waits
    /// for the one that does, or copies them itself.
    pub(crate) fn vectors(&self) -> &[Vec<f32>] {
        self.work.vectors()
    }
}

impl Drop for Warmer {
    fn drop(&mut self) {
        self.work.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // The thread returns nothing, and nothing in it panics.
            let _ = thread.join();
        }
    }
}

impl Work {
    /// Takes chunks and touches their pages, until none is left or `may_go_on` returns false.
    fn touch(&self, may_go_on: impl Fn() -> bool) {
        while !self.stop.load(Ordering::Relaxed)
            && may_go_on()
            && let Some(chunk) = self.chunks.get(self.next.fetch_add(1, Ordering::Relaxed))
        {
            let bytes = &in_file(self.plan.weight(chunk.weight))[chunk.bytes.clone()];
            for at in touched_offsets(bytes) {
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

/// The bytes that products read: rows, or columns where the matrix lies so.
fn in_file(weight: &Weight) -> &[u8] {
    weight.columns().map_or_else(|| weight.bytes(), |columns| columns.bytes)
}

/// The chunks of the matrices that operations read as a whole, in the plan's order. The embedding is left out: a step
/// reads only some of its rows.
fn chunks(plan: &Plan) -> Vec<Chunk> {
    let mut chunks = vec![];
    for weight in plan.nodes.iter().filter_map(|node| matrix(&node.op)) {
        let n_bytes = in_file(plan.weight(weight)).len();
        let starts = (0..n_bytes).step_by(CHUNK_N_BYTES);
        chunks.extend(starts.map(|start| Chunk { weight, bytes: start..n_bytes.min(start + CHUNK_N_BYTES) }));
    }
    chunks
}

/// The offsets in `bytes` whose access maps all pages: the first byte, and every byte whose address is a multiple of
/// [`FAULT_AROUND_N_BYTES`].
fn touched_offsets(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let start = bytes.as_ptr().addr().wrapping_neg() % FAULT_AROUND_N_BYTES;
    let first = (start > 0 && !bytes.is_empty()).then_some(0);
    first.into_iter().chain((start..bytes.len()).step_by(FAULT_AROUND_N_BYTES))
}

/// The matrix that an operation reads as a whole.
fn matrix(op: &Op) -> Option<WeightId> {
    match op {
        Op::MatMul { weight, .. } => Some(*weight),
        Op::Embed { .. }
        | Op::LayerNorm { .. }
        | Op::RmsNorm { .. }
        | Op::TokenShift { .. }
        | Op::Activate { .. }
        | Op::ValueResidual { .. }
        | Op::KeyControl { .. }
        | Op::Wkv7 { .. }
        | Op::NormBonusGate { .. }
        | Op::Mix { .. }
        | Op::Wkv4 { .. }
        | Op::Wkv6 { .. }
        | Op::NormGate { .. }
        | Op::BonusGate { .. }
        | Op::RepeatHeads { .. }
        | Op::Gate { .. }
        | Op::TokenMatrix { .. }
        | Op::Select { .. } => None,
    }
}

// WebAssembly has no threads, and opens no files.
#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use anser_format::ModelFile;

    const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/demo-q8_0.gguf");

    fn plan(path: impl AsRef<std::path::Path>) -> Arc<Plan> {
        Arc::new(anser_model::load(&ModelFile::open(path).unwrap()).unwrap().1)
    }

    #[test]
    fn every_stretch_of_memory_is_touched_once() {
        let memory = vec![0; 4 * FAULT_AROUND_N_BYTES];
        let stretch = |bytes: &[u8], at: usize| (bytes.as_ptr().addr() + at) / FAULT_AROUND_N_BYTES;
        for (start, end) in
            [(0, 0), (0, 1), (5, 5), (1, FAULT_AROUND_N_BYTES), (0, memory.len()), (77, memory.len() - 99)]
        {
            let bytes = &memory[start..end];
            let mut expected: Vec<usize> = (0..bytes.len()).map(|at| stretch(bytes, at)).collect();
            expected.dedup();
            let found: Vec<usize> = touched_offsets(bytes).map(|at| stretch(bytes, at)).collect();
            assert_eq!(found, expected, "bytes {start} to {end}");
        }
    }

    #[test]
    fn chunks_are_all_of_the_matrices() {
        let plan = plan(DEMO);
        let mut n_bytes = vec![0; plan.weights.len()];
        for Chunk { weight, bytes } in chunks(&plan) {
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
        // The read puts the file in the system's cache: a page fault maps only pages that are there.
        assert_eq!(std::fs::read(&path).unwrap().len(), std::fs::read(DEMO).unwrap().len());
        let plan = plan(&path);
        let n_resident = || {
            let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let map = maps.split_once(path.to_str().unwrap()).unwrap().1;
            let kib = map.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
            kib.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
        };
        let n_matrix_bytes: usize = chunks(&plan).iter().map(|chunk| chunk.bytes.len()).sum();
        assert!(n_resident() < n_matrix_bytes / 4, "{} of {n_matrix_bytes} before", n_resident());
        let mut warmer = Warmer::start(&plan, 2);
        for thread in warmer.threads.drain(..) {
            thread.join().unwrap();
        }
        assert!(n_resident() >= n_matrix_bytes, "{} of {n_matrix_bytes}", n_resident());
        std::fs::remove_file(&path).unwrap();
    }
}
