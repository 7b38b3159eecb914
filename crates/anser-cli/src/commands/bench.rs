//! `anser bench`

mod clients;
mod compare;
mod engine;
mod figures;
mod kernels;
mod origin;
mod profile;
#[cfg(feature = "serve")]
mod serve;

use crate::args::{BenchArgs, BenchWhat};
use crate::memory::{self, AnonPeak};
use crate::output::Output;
use crate::printable::printable;
use crate::report::Failure;
use crate::term::{Progress, note};
use anser::{
    Ceilings, DeviceKind, EmbedOptions, GenerateOptions, Generations, GpuDevice, MemoryUse, Model, SamplerOptions,
    Session, Want,
};
use compare::Comparison;
use figures::{GpuMemory, Measured, Reached, Report, Spread};
use origin::Origin;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// The tokens that are read before the first token is chosen.
const FIRST_TOKEN_PROMPT: usize = 32;
/// The tokens of the text that is embedded, as an e-mail has.
const EMBED_TOKENS: usize = 212;
/// The number of phases of a run, for the progress bar.
const N_PHASES: usize = 9;
/// The number of texts that are embedded in one call, and the number of their tokens: those of short queries.
const EMBED_BATCH: [usize; 2] = [6, 32];
/// The number of steps of a batch of sequences that are timed.
const BATCH_STEPS: usize = 16;
/// The number of calls whose median time counts, after a first call that compiles kernels and allocates memory.
const N_CALLS: usize = 3;

/// The text that is repeated in prompts. It is real text, since a trained model's activations are then as sparse as in use.
const TEXT: &str = "The ferry left the harbour at seven, a little late, because the captain had waited for the mail. \
    On deck a girl counted the gulls aloud and lost count twice. Her brother read the timetable: if the wind held, they \
    would reach the island before noon, have two hours for the lighthouse, and take the last boat home. ";

pub(crate) fn run(args: &BenchArgs) -> Result<(), Failure> {
    match (&args.what, &args.compare[..]) {
        (Some(BenchWhat::Kernels(args)), _) => kernels::run(args),
        (Some(BenchWhat::Engine(args)), _) => engine::run(args),
        #[cfg(feature = "serve")]
        (Some(BenchWhat::Serve(args)), _) => serve::run(args),
        (None, [a, b]) => {
            let comparison = Comparison::of_files([a, b], args.noise)?;
            Output::new().write(&comparison.table)?;
            comparison.verdict()
        }
        (None, _) => run_model(args),
    }
}

fn run_model(args: &BenchArgs) -> Result<(), Failure> {
    if args.profile {
        let model = args.model.load()?;
        note(&printable(model.device()));
        let mut output = Output::new();
        for n_tokens in [1, args.prompt] {
            output.write(profile::table(&model, &prompt(&model, n_tokens)?)?)?;
        }
        return Ok(());
    }
    let began_at = SystemTime::now();
    let peak = AnonPeak::watch();
    let began = Instant::now();
    // The device stays open to the end, so that the time of loading does not contain the start of the driver.
    let gpu = anser::keep_open(&args.model.options()?)?;
    let open_device_ms = gpu.is_some().then(|| elapsed_ms(began));
    let mut progress = Progress::new("measuring");
    let mut runs = vec![];
    let (mut device, mut title, mut load_anon_mib) = (String::new(), String::new(), None);
    let (mut costs, mut origin) = (Costs::default(), Origin::default());
    for n in 0..args.runs {
        let mut phase = 0;
        let mut tick = || {
            progress.update(n * N_PHASES + phase, args.runs * N_PHASES);
            phase += 1;
        };
        tick();
        let anon_before = memory::anon_mib();
        let began = Instant::now();
        let model = args.model.load()?;
        let session = model.session()?;
        let load_ms = elapsed_ms(began);
        model.finish_loading()?;
        let resident_ms = elapsed_ms(began);
        if n == 0 {
            // Later loads reuse memory that the allocator has kept from the first one.
            load_anon_mib = memory::anon_mib().zip(anon_before).map(|(after, before)| (after - before).max(0.0));
            (device, title) = (model.device().to_owned(), model.plan().title.clone());
            costs = Costs::of(&model);
            // Where the open GPU could not take the model, the processor has it.
            let runs_on_gpu = model.gpu_memory()?.is_some();
            origin = Origin::of(&model, gpu.as_deref().filter(|_| runs_on_gpu), began_at);
        }
        runs.push(measure(args, &model, session, [load_ms, resident_ms], tick)?);
    }
    drop(progress);
    // These figures end here: they exclude the measurements below.
    let (peak_anon_mib, peak_rss_mib) = (peak.finish(), memory::peak_rss_mib());
    let spread = |of: fn(&Measured) -> f64| Spread::of(runs.iter().map(of).collect());
    let gpu_memory = runs.iter().filter_map(|m| m.memory).next_back();
    let decode_tps = Spread::of_known(runs.iter().map(|m| m.generate_tps)).unwrap_or(spread(|m| m.decode_tps));
    let reached = match (gpu, gpu_memory) {
        (Some(gpu), Some(memory)) => reached(&gpu, &memory, &costs, [decode_tps, spread(|m| m.prefill_tps)])?,
        _ => None,
    };
    let report = Report {
        model: printable(&args.model.model.display().to_string()),
        title,
        device,
        origin,
        n_prompt: args.prompt,
        n_gen: args.r#gen,
        n_runs: args.runs,
        open_device_ms,
        load_ms: spread(|m| m.load_ms),
        resident_ms: spread(|m| m.resident_ms),
        first_token_ms: spread(|m| m.first_token_ms),
        prefill_tps: spread(|m| m.prefill_tps),
        decode_tps: spread(|m| m.decode_tps),
        generate_tps: Spread::of_known(runs.iter().map(|m| m.generate_tps)),
        sample_tps: Spread::of_known(runs.iter().map(|m| m.sample_tps)),
        embed_ms: spread(|m| m.embed_ms),
        embed_batch_ms: spread(|m| m.embed_batch_ms),
        state_ms: spread(|m| m.state_ms),
        batch_8_tps: spread(|m| m.batch_8_tps),
        batch_64_tps: spread(|m| m.batch_64_tps),
        generate_8_tps: Spread::of_known(runs.iter().map(|m| m.generate_8_tps)),
        generate_64_tps: Spread::of_known(runs.iter().map(|m| m.generate_64_tps)),
        load_anon_mib,
        peak_anon_mib,
        peak_rss_mib,
        gpu_memory: gpu_memory.as_ref().map(GpuMemory::of),
        reached,
    };
    let mut output = Output::new();
    if args.json { output.write_json(&report) } else { output.write(report.to_string()) }
}

/// The work of one token.
#[derive(Default)]
struct Costs {
    /// The bytes of the state.
    state_n_bytes: f64,
    /// The multiplications and additions of all matrix products except the head's.
    n_flops: f64,
}

impl Costs {
    fn of(model: &Model) -> Costs {
        Costs { state_n_bytes: 4.0 * model.state_layout().len() as f64, n_flops: model.plan().n_flops_per_token() }
    }
}

/// The parts of its limits that `gpu` reached with `decode` and `prefill` tokens per second. `None` for a software
/// adapter, for a device without a clock, and if weights stream over the link.
fn reached(
    gpu: &Arc<GpuDevice>,
    memory: &MemoryUse,
    costs: &Costs,
    [decode, prefill]: [Spread; 2],
) -> Result<Option<Reached>, Failure> {
    if memory.streams || gpu.report().kind == DeviceKind::Software || !gpu.report().timestamps {
        return Ok(None);
    }
    let Ceilings { copy_gb_per_s, gemm_tflop_per_s } = anser::measure_ceilings(gpu)?;
    // A copy's bytes are those read and those written; a state is both, too.
    let moved = memory.weights_n_bytes as f64 + 2.0 * costs.state_n_bytes;
    Ok(Some(Reached {
        copy_gb_per_s,
        gemm_tflop_per_s,
        decode_of_copy: moved * decode.median / 1e9 / copy_gb_per_s,
        prefill_of_gemm: costs.n_flops * prefill.median / 1e12 / gemm_tflop_per_s,
    }))
}

/// Measures one run. `tick` is called between its phases.
fn measure(
    args: &BenchArgs,
    model: &Model,
    mut session: Session,
    [load_ms, resident_ms]: [f64; 2],
    mut tick: impl FnMut(),
) -> Result<Measured, Failure> {
    tick();
    let began = Instant::now();
    session.feed(&prompt(model, FIRST_TOKEN_PROMPT)?)?;
    most_likely(&session)?;
    let first_token_ms = elapsed_ms(began);

    tick();
    let tokens = prompt(model, args.prompt)?;
    // The first reading compiles the kernels and allocates the memory for steps of this length.
    session.reset()?;
    session.feed(&tokens)?;
    session.reset()?;
    let began = Instant::now();
    session.feed(&tokens)?;
    let prefill_tps = args.prompt as f64 / began.elapsed().as_secs_f64();
    let mut token = most_likely(&session)?;

    tick();
    let began = Instant::now();
    for _ in 0..args.r#gen {
        session.feed(&[token])?;
        token = most_likely(&session)?;
    }
    let decode_tps = args.r#gen as f64 / began.elapsed().as_secs_f64();

    tick();
    let generate_tps = generate(&mut session, SamplerOptions::greedy(), args.r#gen)?;
    let sample_tps = generate(&mut session, SamplerOptions::default(), args.r#gen)?;

    let memory = model.gpu_memory()?;

    tick();
    let embed_ms = embed(model, &[prompt(model, EMBED_TOKENS)?])?;

    tick();
    let [n_texts, n_tokens] = EMBED_BATCH;
    let embed_batch_ms = embed(model, &vec![prompt(model, n_tokens)?; n_texts])?;

    let state_ms = median_ms(|| {
        let state = session.state()?;
        check_finite(model, "the state", &state.data()[..1])
    })?;
    drop(session);

    tick();
    let (batch_8_tps, generate_8_tps) = (decode_batch(model, 8)?, generate_batch(model, 8)?);
    tick();
    let (batch_64_tps, generate_64_tps) = (decode_batch(model, 64)?, generate_batch(model, 64)?);
    Ok(Measured {
        load_ms,
        resident_ms,
        first_token_ms,
        prefill_tps,
        decode_tps,
        generate_tps,
        sample_tps,
        embed_ms,
        embed_batch_ms,
        state_ms,
        batch_8_tps,
        batch_64_tps,
        generate_8_tps,
        generate_64_tps,
        memory,
    })
}

/// The tokens per second, in all, of `n` sequences that read token by token side by side. The next tokens are not
/// chosen: that is work of the host, for which programs may use several threads.
fn decode_batch(model: &Model, n: usize) -> Result<f64, Failure> {
    let mut sessions = (0..n).map(|_| model.session()).collect::<Result<Vec<_>, _>>()?;
    let tokens = prompt(model, n)?;
    let mut step = || -> Result<(), Failure> {
        let mut feeds: Vec<_> = sessions.iter_mut().zip(tokens.chunks(1)).collect();
        model.feed_batch(&mut feeds, Want::LOGITS)?;
        Ok(())
    };
    // The first step compiles the kernels for steps of `n` sequences. On a GPU whose products round to f16, the second
    // step allocates a second state for each sequence.
    step()?;
    step()?;
    let began = Instant::now();
    for _ in 0..BATCH_STEPS {
        step()?;
    }
    let elapsed_s = began.elapsed().as_secs_f64();
    sessions.iter().try_for_each(|session| check_finite(model, "the logits", session.logits()))?;
    Ok((n * BATCH_STEPS) as f64 / elapsed_s)
}

/// The tokens per second, in all, of `n` texts that are generated side by side, each by its most likely tokens; `None`
/// if the model has no tokenizer.
fn generate_batch(model: &Model, n: usize) -> Result<Option<f64>, Failure> {
    /// The number of tokens of each text that are not timed: with the first ones, a device is set up to draw.
    const WARM_UP: usize = 8;

    if model.tokenizer().is_err() {
        return Ok(None);
    }
    let mut sessions = (0..n).map(|_| model.session()).collect::<Result<Vec<_>, _>>()?;
    let tokens = prompt(model, n)?;
    let mut prompts: Vec<_> = sessions.iter_mut().zip(tokens.chunks(1)).collect();
    let options =
        GenerateOptions { sampler: SamplerOptions::greedy(), stop_tokens: Some(vec![]), ..GenerateOptions::default() };
    let mut generations = model.generate_batch(&mut prompts, &[options])?;
    let mut began = Instant::now();
    let n_drawn = |generations: &Generations| (0..n).map(|i| generations.tokens(i).len()).sum::<usize>();
    for n_steps in [WARM_UP, WARM_UP + BATCH_STEPS] {
        began = Instant::now();
        while n_drawn(&generations) < n * n_steps {
            generations.next().transpose()?;
        }
    }
    Ok(Some((n * BATCH_STEPS) as f64 / began.elapsed().as_secs_f64()))
}

/// The median time of `call`, in milliseconds.
fn median_ms(mut call: impl FnMut() -> Result<(), Failure>) -> Result<f64, Failure> {
    call()?;
    let mut times = vec![];
    for _ in 0..N_CALLS {
        let began = Instant::now();
        call()?;
        times.push(elapsed_ms(began));
    }
    times.sort_by(f64::total_cmp);
    Ok(times[N_CALLS / 2])
}

/// The time of embedding texts in one call, in milliseconds.
fn embed(model: &Model, texts: &[Vec<u32>]) -> Result<f64, Failure> {
    median_ms(|| {
        let rows = model.embed_batch(texts, &EmbedOptions::default())?;
        check_finite(model, "the embeddings", &rows)
    })
}

/// The tokens per second of a generation of `n` tokens; `None` if the model has no tokenizer.
fn generate(session: &mut Session, sampler: SamplerOptions, n: usize) -> Result<Option<f64>, Failure> {
    /// The number of tokens that are not timed: with them a device is set up to draw.
    const WARM_UP: usize = 16;

    if session.model().tokenizer().is_err() {
        return Ok(None);
    }
    let sampler = SamplerOptions { seed: Some(1), ..sampler };
    let mut options = GenerateOptions { sampler, stop_tokens: Some(vec![]), ..GenerateOptions::default() };
    let mut run = |n| -> Result<usize, Failure> {
        options.max_tokens = n;
        let mut generation = session.generate(&[], &options)?;
        generation.text()?;
        Ok(generation.tokens().len())
    };
    run(WARM_UP)?;
    let began = Instant::now();
    let n_drawn = run(n)?;
    Ok(Some(n_drawn as f64 / began.elapsed().as_secs_f64()))
}

/// `n` tokens of text, or any ids if the model has no tokenizer.
fn prompt(model: &Model, n: usize) -> Result<Vec<u32>, Failure> {
    let n_vocab = model.config().n_vocab;
    let period = match model.tokenizer() {
        Ok(tokenizer) => tokenizer.encode(TEXT.as_bytes()),
        Err(_) => (1..n_vocab.min(1000) as u32).collect(),
    };
    Ok(period.into_iter().cycle().take(n).collect())
}

/// The most likely token, after a check that all logits are finite: the speed of a wrong answer means nothing.
fn most_likely(session: &Session) -> Result<u32, Failure> {
    let logits = session.logits();
    check_finite(session.model(), "the logits", logits)?;
    let best = (0..).zip(logits).max_by(|a, b| a.1.total_cmp(b.1));
    Ok(best.map_or(0, |(id, _)| id))
}

fn check_finite(model: &Model, what: &str, values: &[f32]) -> Result<(), Failure> {
    if !values.is_empty() && values.iter().all(|x| x.is_finite()) {
        return Ok(());
    }
    Err(Failure::about(
        model.name(),
        format!("{what} are not finite numbers: nothing to measure; the weights are damaged"),
    ))
}

fn elapsed_ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
