//! Embedding models with heads, and rerankers: `fixtures/formats/emb`, whose values are those of the authors' program in f32.

use crate::fixtures::root;
use anser::{Device, EmbedOptions, Model, Options, Pooling, Reranker, TaskHead};
use safetensors::SafeTensors;
use serde_json::Value;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// The largest difference of a number: both sides are sums of 64 products in f32, after two layers, and embeddings are 0 to 3.9.
const MAX_ABS: f32 = 2e-4;

fn path(name: &str) -> PathBuf {
    root().join("fixtures/unpacked/formats/emb").join(name)
}

fn options(device: &str) -> Options {
    Options { device: device.parse::<Device>().unwrap(), exact: true, ..Options::default() }
}

fn cases() -> Value {
    serde_json::from_slice(&std::fs::read(path("e7.json")).expect("run scripts/prepare")).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Embeddings by every head, and pooled rows before the head; several texts at a time.
fn check_embeddings(device: &str) {
    let model = Model::load(path("e7-emb.pth"), &options(device)).unwrap();
    assert_eq!(model.task_heads(), TaskHead::ALL);
    let (json, bytes) = (cases(), std::fs::read(path("e7.expected.safetensors")).unwrap());
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let usual = model.usual_embed_options();
    assert_eq!((usual.head, usual.pooling), (Some(TaskHead::Retr), Pooling::MeanOf(65_535)));
    for task in TaskHead::ALL {
        let name = format!("[{}]", task.name().to_uppercase());
        let of_task = json["embeddings"].as_array().unwrap().iter().filter(|case| case["task"] == name.as_str());
        let (texts, names): (Vec<_>, Vec<_>) =
            of_task.map(|case| (ids(&case["ids"]), case["expect"].as_str().unwrap())).unzip();
        assert!(texts.len() >= 4, "{name}");
        for (head, suffix) in [(Some(task), ""), (None, ".pooled")] {
            let rows = model.embed_batch(&texts, &EmbedOptions { head, ..usual }).unwrap();
            for (row, name) in rows.chunks_exact(64).zip(&names) {
                let Ok(tensor) = expected.tensor(&format!("{name}{suffix}")) else {
                    assert!(head.is_none(), "{name} has a value");
                    continue;
                };
                let oracle = tensor.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
                let error = row.iter().zip(oracle).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
                assert!(error <= MAX_ABS, "{device} {name}{suffix}: {error}");
            }
        }
    }
}

#[test]
fn embeddings_of_every_head_are_the_oracles() {
    check_embeddings("cpu");
}

#[test]
fn embeddings_of_every_head_are_the_oracles_on_a_gpu() {
    check_embeddings("gpu:0");
}

/// The logits of texts whose document was kept, or is read with the query; twice, so that the second time finds every document.
fn check_reranker(device: &str, n_cases: usize) {
    let text = Model::load(path("e7-emb.pth"), &options(device)).unwrap();
    let reranker = Reranker::load(&text, path("e7-reranker.pth"), &options(device), 1 << 20).unwrap();
    for case in cases()["reranker_logits"].as_array().unwrap().iter().rev().take(n_cases) {
        let (document, query) = match case.get("ids") {
            Some(text) => {
                let text = ids(text);
                let (document, query) = text.split_at(text.len() - 1);
                (document.to_vec(), query.to_vec())
            }
            None => (ids(&case["document"]), ids(&case["query"])),
        };
        let expected = case["logit"].as_f64().unwrap();
        for _ in 0..2 {
            let logits = reranker.logits(&query, &[&document[..], &document, &[]]).unwrap();
            for logit in &logits[..2] {
                let error = (f64::from(*logit) - expected).abs();
                assert!(error <= f64::from(MAX_ABS), "{device} {case}: {logit}, off by {error}");
            }
        }
    }
    let stats = reranker.stats();
    // All texts but one have a document before the query, which is asked for twice in the second round.
    assert!(stats.n_hits >= 2 * (n_cases as u64 - 1) && stats.n_entries >= (n_cases - 1).min(5), "{stats:?}");
}

#[test]
fn logits_of_a_reranker_are_the_oracles() {
    check_reranker("cpu", 8);
}

#[test]
fn logits_of_a_reranker_are_the_oracles_on_a_gpu() {
    // Mesa's software adapter compiles kernels for each number of tokens.
    check_reranker("gpu:0", 1);
}

/// Ranking texts is scoring the tokens of the whole prompt, and more documents than are read side by side keep their order.
#[test]
fn documents_are_ranked_by_the_whole_prompts_logits() {
    let text = Model::load(path("e7-emb.pth"), &options("cpu")).unwrap();
    let reranker = Reranker::load(&text, path("e7-reranker.pth"), &options("cpu"), 1 << 24).unwrap();
    let documents: Vec<String> = (0..40).map(|i| format!("Document {i} is about {}.", i * i % 17)).collect();
    let query = "Which one is about 4?";
    let ranked = reranker.rank(query, &documents).unwrap();
    let mut seen: Vec<usize> = ranked.iter().map(|ranked| ranked.index).collect();
    assert!(ranked.windows(2).all(|pair| pair[0].logit >= pair[1].logit));
    for one in ranked.iter().step_by(7) {
        let prompt = format!(
            "Instruct: Given a query, retrieve documents that answer the query\nDocument: {}\nQuery: {query}",
            documents[one.index]
        );
        let tokens = [text.encode(&prompt).unwrap(), vec![65_535]].concat();
        let alone = reranker.logits(&tokens, &[[0u32; 0]]).unwrap()[0];
        assert!((alone - one.logit).abs() < 1e-4, "{one:?} {alone}");
        assert!((one.score - 1.0 / (1.0 + (-one.logit).exp())).abs() < 1e-6);
    }
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..40));
}

/// What was read for one owner is read anew for another, and scores are the same.
#[test]
fn kept_documents_are_their_owners() {
    let text = Model::load(path("e7-emb.pth"), &options("cpu")).unwrap();
    let reranker = Reranker::load(&text, path("e7-reranker.pth"), &options("cpu"), 1 << 24).unwrap();
    let documents = ["Foxes live in the hills.", "17 + 26 = 43"];
    let rank = |owner| {
        let before = reranker.stats().n_hits;
        let ranked = reranker.rank_of(owner, "Where do foxes live?", &documents, |_, _| ControlFlow::Continue(()));
        (ranked.unwrap(), reranker.stats().n_hits - before)
    };
    let (first, n_hits) = rank(1);
    assert_eq!(n_hits, 0);
    assert_eq!(rank(2), (first.clone(), 0));
    assert_eq!(rank(1), (first, 2));
}

#[test]
fn what_an_embedding_model_cannot_do_is_told() {
    let text = Model::load(path("e7-emb.pth"), &options("cpu")).unwrap();
    let error = text.session().unwrap().generate_text("x", &anser::GenerateOptions::default()).map(drop).unwrap_err();
    assert!(error.to_string().contains("e7-emb.pth has no logits"), "{error}");
    let pooled = EmbedOptions { head: Some(TaskHead::Cls), ..EmbedOptions::default() };
    let error = text.embed(&[1], &pooled).unwrap_err().to_string();
    assert!(error.contains("head") && error.contains("ends chunks"), "{error}");
    let plain = crate::fixtures::demo("demo-f16.gguf");
    let error = plain.check_embed_options(&text.usual_embed_options()).unwrap_err().to_string();
    assert!(error.contains("no heads for tasks"), "{error}");
    let load = |text: &Model, name: &str| Reranker::load(text, path(name), &options("cpu"), 0).map(drop).unwrap_err();
    let error = load(&text, "e7-emb.pth").to_string();
    assert!(error.contains("without a reranker's head"), "{error}");
    let error = load(&plain, "e7-reranker.pth").to_string();
    assert!(error.contains("number of layers") && error.contains("expected 6"), "{error}");
}
