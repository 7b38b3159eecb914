//! What loading leaves behind: nothing. Memory is counted for the whole process, so each test runs in a child process of
//! its own: this test program again, asked for one test.

use crate::harness::{alone, device, load};
use anser_gpu::{DeviceKind, Gpu, GpuOptions};
use anser_model::{Rows, Sequence, Step, Value, ValueId};

/// Resident memory of a kind, in MiB: a field of /proc/self/status.
fn resident_mib(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
}

/// 43 MB of weights, of which the embedding table stays on the host.
const DEMO: &str = "../../models/demo-q8_0.gguf";

/// Loads the demo model and decodes a token.
fn load_and_run(options: GpuOptions) -> Gpu {
    let plan = load(DEMO);
    let mut gpu = Gpu::new(plan.clone(), &device(), options).unwrap();
    let sequences = [Sequence { slot: gpu.create_state().unwrap(), n_tokens: 1 }];
    let reads = [plan.logits.unwrap()];
    gpu.step(&Step { tokens: &[7], sequences: &sequences, outputs: &[0], reads: &reads, inputs: &[] }).unwrap();
    gpu
}

#[test]
#[cfg(target_os = "linux")]
fn loading_again_and_again_takes_no_more_memory() {
    alone("memory::load_fifty_times");
}

#[test]
#[ignore = "run by loading_again_and_again_takes_no_more_memory"]
fn load_fifty_times() {
    // The first ones make what is shared: kernels, and what allocators keep. Hardware gets kernels of prompts in the background,
    // which goes on at the next load where the last one ended.
    (0..5).for_each(|_| drop(load_and_run(GpuOptions::default())));
    let mut gpu = load_and_run(GpuOptions::default());
    if gpu.device().report().kind != DeviceKind::Software {
        for n_tokens in [16, 32, 64, 128, 256, 512] {
            let sequences = [Sequence { slot: gpu.create_state().unwrap(), n_tokens }];
            gpu.step(&Step { tokens: &vec![1; n_tokens], sequences: &sequences, ..Step::default() }).unwrap();
        }
    }
    drop(gpu);
    let before = resident_mib("VmRSS:");
    (0..50).for_each(|_| drop(load_and_run(GpuOptions::default())));
    let grown = resident_mib("VmRSS:") - before;
    // One copy of the weights on the device is 26 MiB, and software adapters keep them in this process: a leak of one
    // model in fifty would show.
    assert!(grown < 20.0, "{grown} MiB more after 50 loads");
}

#[test]
#[cfg(target_os = "linux")]
fn weights_are_in_memory_once() {
    alone("memory::load_once");
}

#[test]
#[ignore = "run by weights_are_in_memory_once"]
fn load_once() {
    // Kernels, and the device itself.
    drop(load_and_run(GpuOptions::default()));
    let (anonymous, mapped) = (resident_mib("RssAnon:"), resident_mib("RssFile:"));
    let gpu = load_and_run(GpuOptions::default());
    let needed = Gpu::n_bytes_needed(gpu.plan(), &device(), GpuOptions::default()).unwrap() as f64 / 1024.0 / 1024.0;
    let grown = [resident_mib("RssAnon:") - anonymous, resident_mib("RssFile:") - mapped];
    // Two staging buffers of 4 MiB for each thread are gone, or kept by a software adapter's allocator; 4 MiB of else, and what a
    // step of one token takes.
    let staging = 8.0 * std::thread::available_parallelism().map_or(8, usize::from).min(8) as f64;
    assert!(grown[0] < needed + staging + 5.0, "{grown:?} MiB more for {needed} MiB on the device");
    // The index, the tokenizer's part of it and rows of the embedding table, but no weights.
    assert!(grown[1] < 8.0, "{grown:?} MiB more");
}

#[test]
fn steps_take_little_beyond_weights_and_states() {
    alone("memory::decode_and_read_a_prompt");
}

#[test]
#[ignore = "run by steps_take_little_beyond_weights_and_states"]
fn decode_and_read_a_prompt() {
    const N_TOKENS: usize = 512;

    let mut gpu = load_and_run(GpuOptions::default());
    let plan = gpu.plan().clone();
    gpu.wait_until_resident().unwrap();
    let tokens: Vec<u32> = (0..N_TOKENS as u32).collect();
    for n_tokens in [1, N_TOKENS] {
        let sequences = [Sequence { slot: gpu.create_state().unwrap(), n_tokens }];
        let (outputs, reads) = ([n_tokens as u32 - 1], [plan.logits.unwrap()]);
        let step =
            Step { tokens: &tokens[..n_tokens], sequences: &sequences, outputs: &outputs, reads: &reads, inputs: &[] };
        gpu.step(&step).unwrap();
        let memory = gpu.memory().unwrap();
        let rows = |rows: Rows| if rows == Rows::Tokens { n_tokens } else { 1 };
        let n_bytes = |value: &Value| 4 * rows(value.rows) * value.n_cols;
        let side_by_side: usize = plan.values.iter().map(n_bytes).sum();
        // The most bytes of values that are still to be read at the same time.
        let is_read_after = |id: &ValueId, i: usize| plan.nodes[i..].iter().any(|node| node.op.inputs().contains(id));
        let alive = |i: usize| -> usize {
            let made = plan.nodes[..=i].iter().flat_map(|node| node.op.outputs());
            let own = plan.nodes[i].op.outputs();
            made.filter(|id| own.contains(id) || is_read_after(id, i)).map(|id| n_bytes(plan.value(id))).sum()
        };
        let in_turn = (0..plan.nodes.len()).map(alive).max().unwrap();
        // Steps of one token give each value memory of its own, and products' inputs once more in 8 bits. In long ones values
        // take turns; as much again is for products' inputs in halves, and twice as much for partial sums of products
        // whose columns several workgroups share.
        let values = if n_tokens == 1 { 2 * side_by_side } else { 4 * in_turn };
        // Logits that wait to be read take as many bytes as the next power of two; 1 MiB is for the step's tables, constants
        // and alignment.
        let bound = (values + 2 * 4 * 65536 + (1 << 20)) as u64;
        // Vulkan's and Direct3D's allocators are wgpu's and tell; other drivers have their own.
        let scratch = memory.scratch_n_bytes();
        assert!(scratch.is_some() || gpu.device().report().backend == "metal");
        assert!(scratch.is_none_or(|found| 0 < found && found < bound), "{n_tokens} tokens: {memory:?}, bound {bound}");
        assert!(memory.reserved_n_bytes >= memory.allocated_n_bytes, "{memory:?}");
        // A row for each sequence, two halves of the token-shift parts, and twice as many rows at most.
        let state = 4 * plan.state.len() as u64;
        assert!((2 * state..8 * state).contains(&memory.states_n_bytes), "{memory:?}");
    }
}
