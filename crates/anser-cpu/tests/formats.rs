//! Every RWKV version from every container, against programs that are not this one: the miniatures of `fixtures/formats` and
//! what `rwkv` (torch, f32), `rwkv7-hf`, flash-linear-attention or a float64 restatement say about them (`fixtures/README.md`).

use anser_cpu::{Cpu, Mode, Options};
use anser_format::ModelFile;
use anser_model::cases::nmse;
use anser_model::{Plan, Sequence, Step};
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The models of versions that run.
const VERSIONS: [&str; 12] =
    ["m4", "m50", "m51", "m52", "m6", "fla-v6", "m7", "m7a", "f7", "rwkv6qwen2", "arwkv7", "arwkv7-nogate"];

/// f32 sums in another order than torch's: measured 1e-11 and below.
const REFERENCE: f64 = 1e-9;
/// Exponentials and sums of the kernels.
const FAST: f64 = 1e-6;

fn formats(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/unpacked/formats").join(name)
}

/// What the oracles say: the files of expected values.
struct Expected([Vec<u8>; 3]);

impl Expected {
    fn read() -> Expected {
        let files = ["expected.safetensors", "../../formats/hybrids.safetensors", "../../formats/fla_v6.safetensors"];
        Expected(files.map(|name| std::fs::read(formats(name)).expect("run scripts/prepare")))
    }

    fn find(&self, name: &str) -> Option<Vec<f32>> {
        self.0.iter().find_map(|bytes| {
            let file = SafeTensors::deserialize(bytes).unwrap();
            let bytes = file.tensor(name).ok()?.data();
            Some(bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect())
        })
    }

    fn get(&self, name: &str) -> Vec<f32> {
        self.find(name).unwrap_or_else(|| panic!("{name} is missing"))
    }

    /// The state after prompt 1 in the order of the plan's layout; `None` where the oracle gave none. Its tensors are in
    /// package rwkv's order, per layer: att_x, then S, or aa, bb and pp, then ffn_x. S is [key, value] before RWKV-7. The hybrids'
    /// oracle has no ffn_x, and S is [value, key].
    fn state(&self, plan: &Plan, model: &str) -> Option<Vec<f32>> {
        let n_layer = plan.state.n_layer;
        let is_version_4 = plan.title.starts_with("rwkv4");
        let is_hybrid = plan.state.parts.iter().all(|part| part.name != "ffn_shift");
        let n_per_layer = if is_version_4 { 5 } else { 3 - usize::from(is_hybrid) };
        let part = |layer: usize, j: usize| self.find(&format!("{model}.p1.state.{}", layer * n_per_layer + j));
        let mut state = vec![];
        for (i, layout) in plan.state.parts.iter().enumerate() {
            for layer in 0..n_layer {
                match (layout.name, is_version_4) {
                    ("att_shift", _) => state.extend(part(layer, 0)?),
                    ("ffn_shift", _) => state.extend(part(layer, n_per_layer - 1)?),
                    ("wkv", true) => (1..4).try_for_each(|j| part(layer, j).map(|x| state.extend(x)))?,
                    ("wkv", false) => {
                        let s = part(layer, 1)?;
                        let n = layout.shape[2];
                        if is_hybrid || plan.title.starts_with("rwkv7") {
                            state.extend(s);
                            continue;
                        }
                        for head in s.chunks_exact(n * n) {
                            state.extend((0..n * n).map(|at| head[at % n * n + at / n]));
                        }
                    }
                    (other, _) => panic!("part {i} is called {other}"),
                }
            }
        }
        Some(state)
    }
}

/// A file, the name of its expected values, and three prompts.
struct Case {
    file: String,
    expect: String,
    prompts: Vec<Vec<u32>>,
}

/// The cases of models without a state or an adapter beside them.
fn cases() -> Vec<Case> {
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(formats("cases.json")).unwrap()).unwrap();
    let plain = |case: &&serde_json::Value| ["state", "lora"].iter().all(|key| case.get(*key).is_none());
    let case = |case: &serde_json::Value| Case {
        file: case["file"].as_str().unwrap().into(),
        expect: case["expect"].as_str().unwrap().into(),
        prompts: serde_json::from_value(case["tokens"].clone()).unwrap(),
    };
    // Its initial state is not zero, which is the matter of `anser`.
    let is_tuned = |case: &Case| case.expect.ends_with(".state");
    let runs = |case: &Case| VERSIONS.iter().any(|version| case.expect.split('.').next() == Some(version));
    json.as_array().unwrap().iter().filter(plain).map(case).filter(|case| !is_tuned(case) && runs(case)).collect()
}

fn load(name: &str) -> Arc<Plan> {
    let file = ModelFile::open(formats(name)).unwrap();
    Arc::new(anser_model::load(&file).unwrap_or_else(|error| panic!("{error}")).1)
}

/// All tokens' logits and the final state, fed in chunks of `chunk`.
fn run(plan: &Arc<Plan>, mode: Mode, tokens: &[u32], chunk: usize) -> (Vec<f32>, Vec<f32>) {
    let mut cpu = Cpu::new(plan.clone(), Options { mode, ..Options::default() }).unwrap();
    let slot = cpu.create_state();
    let mut logits = vec![];
    for tokens in tokens.chunks(chunk) {
        let outputs: Vec<u32> = (0..tokens.len() as u32).collect();
        let sequences = [Sequence { slot, n_tokens: tokens.len() }];
        let reads = [plan.logits.unwrap()];
        let step = Step { tokens, sequences: &sequences, outputs: &outputs, reads: &reads, inputs: &[] };
        logits.extend(cpu.step(&step).unwrap().swap_remove(0));
    }
    (logits, cpu.state(slot).unwrap().to_vec())
}

#[test]
fn every_version_from_every_container_agrees_with_its_oracle() {
    let expected = Expected::read();
    let cases = cases();
    assert!(cases.len() >= 30, "{} cases", cases.len());
    let mut failures = vec![];
    let mut n_states = 0;
    for Case { file, expect, prompts } in cases {
        let plan = load(&file);
        let mut worst = 0.0f64;
        n_states += usize::from(expected.state(&plan, &expect).is_some());
        for (mode, bound) in [(Mode::Reference, REFERENCE), (Mode::Fast, FAST)] {
            for (i, tokens) in prompts.iter().enumerate() {
                for chunk in [1, 7, 64] {
                    let (logits, state) = run(&plan, mode, tokens, chunk);
                    let last = &logits[logits.len() - plan.n_vocab..];
                    let mut check = |what: &str, actual: &[f32], expected: &[f32]| {
                        let error = nmse(actual, expected);
                        worst = worst.max(error);
                        if error > bound {
                            failures.push(format!("{file} {mode:?} prompt {i} in {chunk}s: {what}: {error:e}"));
                        }
                    };
                    check("logits", last, &expected.get(&format!("{expect}.p{i}.logits")));
                    if i != 1 {
                        continue;
                    }
                    if let Some(all) = expected.find(&format!("{expect}.p1.all_logits")) {
                        check("all logits", &logits, &all);
                    }
                    if let Some(expected) = expected.state(&plan, &expect) {
                        check("state", &state, &expected);
                    }
                }
            }
        }
        println!("{file}: {worst:.1e}");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(n_states >= 35, "{n_states} states");
}

/// Matrices, embedding and head of the types with codebooks, all seven in one file of llama-quantize's, against float64. Activations
/// rounded to 8 bits change logits by less than they do in llama.cpp, which rounds 256 at a time.
#[test]
fn types_with_codebooks_agree_with_float64() {
    let plan = load("quant/q7-codebooks.gguf");
    let mut dtypes: Vec<&str> = plan.weights.iter().map(|weight| weight.dtype().name()).collect();
    dtypes.sort_unstable();
    dtypes.dedup();
    let all = ["F16", "F32", "IQ1_M", "IQ1_S", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ3_S", "IQ3_XXS"];
    assert_eq!(dtypes, all);
    let bytes = std::fs::read(formats("quant/q7-codebooks.safetensors")).expect("run scripts/prepare");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let numbers = |name: &str| -> Vec<f32> {
        let bytes = file.tensor(name).unwrap().data();
        bytes.as_chunks().0.iter().map(|&number| f32::from_le_bytes(number)).collect()
    };
    for i in 0..3 {
        let tokens: Vec<u32> = numbers(&format!("p{i}.tokens")).iter().map(|&token| token as u32).collect();
        let (expected, llama) = (numbers(&format!("p{i}.logits")), numbers(&format!("p{i}.llama")));
        let theirs = nmse(&llama, &expected);
        for chunk in [1, 7, 64] {
            let error = |mode| nmse(&run(&plan, mode, &tokens, chunk).0, &expected);
            let (reference, fast) = (error(Mode::Reference), error(Mode::Fast));
            println!("prompt {i} in {chunk}s: {reference:.1e}, {fast:.1e}; llama.cpp {theirs:.1e}");
            assert!(reference <= REFERENCE, "prompt {i} in {chunk}s: {reference:e}");
            assert!(fast <= theirs, "prompt {i} in {chunk}s: {fast:e}, llama.cpp's {theirs:e}");
        }
    }
}

/// Numbers have so few digits that F16, BF16 and F32 files have the same ones: so have their logits.
#[test]
fn containers_of_one_model_give_the_same_bits() {
    let mut seen: BTreeMap<String, (String, Vec<u32>)> = BTreeMap::new();
    let mut n_twins = 0;
    for Case { file, expect, prompts } in cases() {
        let plan = load(&file);
        let (logits, _) = run(&plan, Mode::Fast, &prompts[2], 64);
        let bits: Vec<u32> = logits.iter().map(|x| x.to_bits()).collect();
        match seen.get(&expect) {
            Some((other, expected)) => {
                assert!(bits == *expected, "{file} and {other} differ");
                n_twins += 1;
            }
            None => drop(seen.insert(expect, (file, bits))),
        }
    }
    assert!(n_twins > 15, "{n_twins}");
}

/// The hand-made PyTorch files as models: `load` must give the base model's logits, `reject` must be refused.
#[test]
fn hand_made_files_behave_as_their_manifest_says() {
    let folder = formats("pth/hand");
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("manifest.json")).expect("run scripts/prepare")).unwrap();
    let base = run(&load("m7.safetensors"), Mode::Fast, &[1, 2, 3, 50, 79], 64);
    let entries = manifest.as_array().unwrap();
    assert_eq!(entries.len(), 108);
    for entry in entries {
        let (name, expect) = (entry["file"].as_str().unwrap(), entry["expect"].as_str().unwrap());
        let opened = ModelFile::open(folder.join(name)).map_err(|error| error.to_string());
        let plan = opened.and_then(|file| anser_model::load(&file).map_err(|error| error.to_string()));
        match (plan, expect) {
            (Err(error), "reject" | "either") => assert!(error.contains(name), "{name}: {error}"),
            (Ok((_, plan)), "load" | "either") if name != "tensor_nan.pth" => {
                assert!(run(&Arc::new(plan), Mode::Fast, &[1, 2, 3, 50, 79], 64) == base, "{name}");
            }
            (Ok(_), "either") => {}
            (plan, _) => panic!("{name}: {expect} is expected, found {:?}", plan.map(|(config, _)| config)),
        }
    }
}

/// Low-rank matrices that lie transposed are read where they lie.
#[test]
fn nothing_is_copied_of_a_pth_file() {
    for (file, n_low_rank) in [("pth/torch-bf16.pth", 2 * 8 - 2), ("pth/torch-f32.pth", 2 * 8 - 2), ("m7a.pth", 6)] {
        let plan = load(file);
        let n_by_columns = plan.weights.iter().filter(|weight| weight.columns().is_some()).count();
        assert!(n_by_columns >= n_low_rank, "{file}: {n_by_columns}");
        run(&plan, Mode::Fast, &[1, 2, 3, 50, 7], 2);
        run(&plan, Mode::Fast, &(0..20).collect::<Vec<_>>(), 20);
        let copied: Vec<&str> = plan.weights.iter().filter(|w| w.is_copied()).map(|w| w.name()).collect();
        assert!(copied.is_empty(), "{file}: {copied:?}");
    }
}

#[test]
fn sequences_side_by_side_equal_them_apart() {
    let hybrids = ["gguf/rwkv6qwen2.gguf", "gguf/arwkv7.gguf", "gguf/arwkv7-nogate.gguf"];
    let names = ["m4.pth", "m50.pth", "m51.pth", "m52.pth", "m6.pth", "m7.safetensors", "m7a.pth"];
    let names = [&names[..], &hybrids].concat();
    for Case { file, prompts, .. } in cases().into_iter().filter(|case| names.contains(&&case.file[..])) {
        let plan = load(&file);
        let apart: Vec<_> = prompts.iter().map(|tokens| run(&plan, Mode::Reference, tokens, 64)).collect();
        let mut cpu = Cpu::new(plan.clone(), Options::default()).unwrap();
        let slots: Vec<usize> = prompts.iter().map(|_| cpu.create_state()).collect();
        // In another order than the slots were made.
        let order = [1, 2, 0];
        let tokens: Vec<u32> = order.iter().flat_map(|&i| prompts[i].clone()).collect();
        let sequences = order.map(|i| Sequence { slot: slots[i], n_tokens: prompts[i].len() });
        let outputs: Vec<u32> = (0..tokens.len() as u32).collect();
        let reads = [plan.logits.unwrap()];
        let step = Step { tokens: &tokens, sequences: &sequences, outputs: &outputs, reads: &reads, inputs: &[] };
        let together = cpu.step(&step).unwrap().swap_remove(0);
        let mut start = 0;
        for i in order {
            let (logits, state) = &apart[i];
            let error = nmse(&together[start..start + logits.len()], logits);
            assert!(error <= FAST, "{file}, sequence {i}: logits, nmse {error:e}");
            let error = nmse(cpu.state(slots[i]).unwrap(), state);
            assert!(error <= FAST, "{file}, sequence {i}: state, nmse {error:e}");
            start += logits.len();
        }
    }
}
