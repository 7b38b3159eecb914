//! `anser logits`, `anser embed`, `anser perplexity` and `anser bench`: numbers, held against independent programs.

use crate::harness::{Ran, expected, fixture, floats, ids, nmse, read_npy, run, run_with, tensor};
use serde_json::Value;

/// Both sides compute F16 weights in f32; the sums run in another order.
const F32_NMSE: f64 = 1e-6;

fn tiny(name: &str) -> String {
    fixture(name).to_str().unwrap().to_owned()
}

#[test]
fn logits_are_those_of_torch_on_the_tiny_models() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["tiny-v7", "tiny-v7mini", "tiny-v7n32"] {
        let model = tiny(&format!("tiny/{name}.st"));
        let out = directory.path().join(name);
        let out = out.to_str().unwrap();
        let about: Value =
            serde_json::from_slice(&std::fs::read(fixture(&format!("tiny/{name}.json"))).unwrap()).unwrap();
        for (i, prompt) in about["prompts"].as_array().unwrap().iter().enumerate() {
            let found =
                run(&["logits", "-m", &model, "--tokens", &prompt.to_string(), "--top", "5", "--out", out]).json();
            assert_eq!(found["n"], prompt.as_array().unwrap().len(), "{name} {i}");
            let (shape, logits) = read_npy(out.as_ref());
            let truth = tensor(&format!("tiny/{name}.expected.safetensors"), &format!("p{i}.logits"));
            assert_eq!(shape, format!("({},)", truth.len()));
            let error = nmse(&logits, &truth);
            assert!(error < F32_NMSE, "{name} {i}: {error:e}");
            assert_top(&found["top"], &logits, 5);
        }
    }
}

/// What is printed are the largest of all logits, exactly as they are in the file, in order.
fn assert_top(top: &Value, logits: &[f32], k: usize) {
    let top: Vec<(usize, f32)> = serde_json::from_value(top.clone()).unwrap();
    let mut sorted = logits.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    assert_eq!(top.iter().map(|t| t.1).collect::<Vec<_>>(), sorted[..k]);
    top.iter().for_each(|&(id, logit)| assert_eq!(logits[id], logit));
}

#[test]
fn text_and_its_tokens_give_the_same_logits() {
    let prompt = expected("chat");
    let text = run(&["logits", "--text", prompt["text"].as_str().unwrap()]).json();
    assert_eq!(text, run(&["logits", "--tokens", &prompt["ids"].to_string()]).json());
    assert_eq!(text, run_with(&["logits", "--text", "-"], prompt["text"].as_str().unwrap().as_bytes()).json());
    assert_eq!(text["top"].as_array().unwrap().len(), 10);
    assert_eq!(text["top"][0][0].as_u64(), Some(u64::from(ids(&prompt["dequant-q8_0"]["greedy"])[0])));
}

#[test]
fn no_text_is_read_as_token_0() {
    let zero = run(&["logits", "--tokens", "0"]).json();
    assert_eq!(zero, run(&["logits", "--text", ""]).json());
    assert_eq!(zero, run(&["logits", "--tokens", ""]).json());
    assert_eq!(zero["n"], 1);
}

#[test]
fn ids_out_of_range_and_files_that_cannot_be_written_are_named() {
    let message = run(&["logits", "--tokens", "1,65536"]).failure(1);
    assert!(message.contains("65536") && message.contains("position 1"), "{message}");
    assert!(run(&["logits", "--tokens", "1", "--out", "/no/such/x.npy"]).failure(1).contains("/no/such/x.npy"));
    assert!(run(&["logits", "--tokens", "1,-2"]).failure(2).contains("-2"));
    run(&["logits", "--tokens", "1", "--text", "a"]).failure(2);
    run(&["logits"]).failure(2);
}

fn rows(ran: Ran) -> Vec<Vec<f32>> {
    ran.text().lines().map(|line| floats(&serde_json::from_str(line).unwrap())).collect()
}

#[test]
fn embeddings_are_the_hidden_rows_of_llama_cpp() {
    // The other program rounds the activations to Q8_0 before every product: 0.4 % of the largest of 32.
    const Q8_0_NMSE: f64 = 1e-3;
    let texts = ["chat", "story"].map(|name| expected(name)["text"].as_str().unwrap().to_owned());
    let found = rows(run(&["embed", &texts[0], &texts[1]]));
    assert_eq!(found.len(), 2);
    for (row, name) in found.iter().zip(["chat", "story"]) {
        let error = nmse(row, &tensor("expected/vectors.safetensors", &format!("q8_0.llama.hidden_last.{name}")));
        assert!(error < Q8_0_NMSE, "{name}: {error:e}");
    }
}

#[test]
fn mean_pooling_is_the_mean_over_all_beginnings_of_the_text() {
    let prompt = expected("chat");
    let ids = ids(&prompt["ids"]);
    let beginning = |n| run(&["tokenize", "--decode", &serde_json::to_string(&ids[..n]).unwrap()]).text();
    let beginnings: Vec<String> = (1..=ids.len()).map(beginning).collect();
    let arguments: Vec<&str> = ["embed"].into_iter().chain(beginnings.iter().map(String::as_str)).collect();
    let lasts = rows(run(&arguments));
    let mean: Vec<f32> = (0..256).map(|i| lasts.iter().map(|row| row[i]).sum::<f32>() / lasts.len() as f32).collect();
    let found = rows(run(&["embed", "--pooling", "mean", prompt["text"].as_str().unwrap()])).remove(0);
    // The same sums in chunks of another size.
    let error = nmse(&found, &mean);
    assert!(error < F32_NMSE, "{error:e}");
}

#[test]
fn embeddings_are_normalized_and_written_as_they_are_printed() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("rows.npy");
    let out = out.to_str().unwrap();
    let model = tiny("tiny/tiny-v7mini-f16.gguf");
    let found = rows(run(&["embed", "-m", &model, "--normalize", "--out", out, "a fox", "", "two foxes"]));
    let (shape, written) = read_npy(out.as_ref());
    assert_eq!((shape.as_str(), &written), ("(3,64,)", &found.concat()));
    for row in &found {
        let length: f32 = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
    }
    let plain = rows(run(&["embed", "-m", &model, "a fox"])).remove(0);
    let length = plain.iter().map(|x| x * x).sum::<f32>().sqrt();
    let scaled: Vec<f32> = plain.iter().map(|x| x / length).collect();
    assert!(nmse(&found[0], &scaled) < 1e-10);
}

#[test]
fn perplexity_is_that_of_the_oracle() {
    // The first tokens of the text only: the oracle gives the likelihood of every one.
    const N: usize = 120;
    let all = run(&["tokenize", "--file", fixture("expected/perplexity.txt").to_str().unwrap()]).json();
    let beginning = serde_json::to_string(&ids(&all)[..=N]).unwrap();
    let text = run(&["tokenize", "--decode", &beginning]).quiet();
    let nll = tensor("expected/vectors.safetensors", "perplexity.nll");
    let truth = nll[..N].iter().map(|&x| f64::from(x)).sum::<f64>() / N as f64;

    let found = run_with(&["perplexity", "--file", "-", "--json"], &text).json();
    let mean_nll = found["mean_nll"].as_f64().unwrap();
    // The oracle read F16 weights, the demo model has Q8_0: perplexities within 2 %.
    assert!((mean_nll - truth).abs() < 0.02, "{mean_nll} {truth}");
    assert_eq!(found["n_scored"], N);
    assert!((found["perplexity"].as_f64().unwrap().ln() - mean_nll).abs() < 1e-12);

    let told = run_with(&["perplexity", "--file", "-"], &text).text();
    assert!(told.starts_with(&format!("perplexity {:.4} (", mean_nll.exp())), "{told}");
}

#[test]
fn a_perplexity_needs_two_tokens() {
    assert!(run_with(&["perplexity", "--file", "-"], b"a").failure(1).contains("at least 2 tokens, found 1"));
    run(&["perplexity", "--file", "/no/such/text"]).failure(1);
}

#[test]
fn bench_measures_everything_it_promises() {
    let found = run(&["bench", "--prompt", "8", "--gen", "4", "--runs", "2", "--json"]).json();
    let figures = ["load_ms", "first_token_ms", "prefill_tps", "decode_tps", "generate_tps", "sample_tps", "embed_ms"];
    let more = ["resident_ms", "embed_batch_ms", "state_ms"];
    let batches = ["batch_8_tps", "batch_64_tps", "generate_8_tps", "generate_64_tps"];
    for figure in figures.into_iter().chain(more).chain(batches) {
        let [min, median, max] = ["min", "median", "max"].map(|of| found[figure][of].as_f64().unwrap());
        assert!(0.0 < min && min <= median && median <= max, "{figure}: {}", found[figure]);
    }
    for text in ["version", "commit", "date", "dtype", "device", "model", "title"] {
        assert!(found[text].as_str().is_some_and(|text| !text.is_empty()), "{text}: {found}");
    }
    assert!(found["dtype"].as_str().unwrap().starts_with("Q8_0"), "{found}");
    assert!(found["driver"].is_null() && found["backend"].is_null(), "the processor has no driver: {found}");
    assert_eq!(found["model_n_bytes"], run(&["inspect", "demo", "--json"]).json()["n_bytes"]);

    let table = run(&["bench", "--prompt", "8", "--gen", "4", "--runs", "1"]).text();
    for figure in [
        "load_ms",
        "resident_ms",
        "first_token_ms",
        "prefill_tps",
        "decode_tps",
        "generate_tps",
        "sample_tps",
        "embed_ms",
        "load_anon_mib",
        "peak_anon_mib",
        "peak_rss_mib",
    ] {
        assert!(table.lines().any(|line| line.starts_with(figure)), "{figure}: {table}");
    }
    if cfg!(target_os = "linux") {
        let [load, peak, rss] =
            ["load_anon_mib", "peak_anon_mib", "peak_rss_mib"].map(|of| found[of].as_f64().unwrap());
        assert!(load < 40.0, "the file is mapped, not read into memory: {load} MiB");
        assert!(load <= peak && peak <= rss, "{load} {peak} {rss}");
    }
}
