//! Ranked documents, and embeddings by heads, over HTTP.

use crate::harness::{Running, demo, limits, options};
use anser::{Device, EmbedOptions, Model, Reranker, TaskHead};
use anser_serve::ServedModel;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

fn emb(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/unpacked/formats/emb").join(name)
}

#[test]
fn documents_and_embeddings_are_the_librarys() {
    let given = anser::Options { device: Device::Cpu, exact: true, ..anser::Options::default() };
    let model = Model::load(emb("e7-emb.pth"), &given).expect("run scripts/prepare");
    let reranker = || Reranker::load(&model, emb("e7-reranker.pth"), &given, 1 << 20).unwrap();
    let served = |model: Model, name: &str, reranker| ServedModel {
        is_adapted: false,
        model,
        names: vec![name.into()],
        created: SystemTime::now(),
        limits: limits(),
        states: vec![],
        reranker,
    };
    let all = vec![served(model.clone(), "emb", Some(reranker())), served(demo(), "demo", None)];
    let server = Running::of_served(all, options(), Duration::from_secs(10));

    let documents = ["Foxes live in the hills.", "17 + 26 = 43", "A dog", "The hills are green."];
    let query = "Where do foxes live?";
    let expected = reranker().rank(query, &documents).unwrap();
    let mut body = json!({"model": "emb", "query": query, "documents": documents, "return_documents": true});
    body["documents"][2] = json!({"text": documents[2]});
    let answer = server.post("/v1/rerank", &body).ok();
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 4);
    for (result, expected) in results.iter().zip(&expected) {
        assert_eq!(result["index"], expected.index);
        assert_eq!(result["document"]["text"], documents[expected.index]);
        assert!((result["relevance_score"].as_f64().unwrap() - f64::from(expected.score)).abs() < 1e-6, "{answer}");
    }
    let tokens = |document: &&str| reranker().document_tokens(document).unwrap().len();
    let n_tokens = documents.iter().map(tokens).sum::<usize>() + 4 * reranker().query_tokens(query).unwrap().len();
    assert_eq!(answer["usage"]["total_tokens"], n_tokens);
    let brief =
        server.post("/rerank", &json!({"model": "emb", "query": query, "documents": documents, "top_n": 2})).ok();
    assert_eq!(brief["results"].as_array().unwrap().len(), 2);
    assert!(brief["results"][0].get("document").is_none());

    let refused = |more: Value| {
        let mut body = json!({"model": "emb", "query": query, "documents": documents});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post("/v1/rerank", &body).error(400)
    };
    assert_eq!(refused(json!({"model": "demo"}))["code"], "no_reranker");
    for (more, param) in [(json!({"documents": []}), "documents"), (json!({"top_n": 0}), "top_n")] {
        assert_eq!(refused(more)["param"], param);
    }

    // Without a word about it an embedding model uses its head for retrieval.
    let embed = |more: Value| {
        let mut body = json!({"model": "emb", "input": [query], "normalize": false});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = server.post("/v1/embeddings", &body).ok();
        serde_json::from_value::<Vec<f32>>(answer["data"][0]["embedding"].clone()).unwrap()
    };
    let tokens = model.encode(query).unwrap();
    for (more, head) in [
        (json!({}), Some(TaskHead::Retr)),
        (json!({"head": "sts"}), Some(TaskHead::Sts)),
        (json!({"pooling": "eos-mean"}), None),
        (json!({"head": "none"}), None),
    ] {
        let expected = model.embed(&tokens, &EmbedOptions { head, ..model.usual_embed_options() }).unwrap();
        assert_eq!(embed(more), expected, "{head:?}");
    }
    let error = server.post("/v1/embeddings", &json!({"model": "demo", "input": query, "head": "cls"})).error(400);
    assert!(error["message"].as_str().unwrap().contains("no heads"), "{error}");
    let error = server.post("/v1/completions", &json!({"model": "emb", "prompt": query})).error(400);
    assert!(error["message"].as_str().unwrap().contains("no logits"), "{error}");
}
