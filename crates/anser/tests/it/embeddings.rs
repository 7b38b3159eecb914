//! Embeddings in batches, caches, and values inside the model.

use crate::fixtures::{EXPECTED, demo, hidden, prompt};
use anser::{EmbedOptions, Error, Layer, Model, Options, Pooling, PrefixCache, Want, Which};
use anser_model::cases::nmse;
use std::ops::ControlFlow;

/// Cosine of two vectors, in f64.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Every pooling and layer against a float64 restatement of the model (`fixtures/expected/make_hidden.py`).
#[test]
fn embeddings_equal_the_float64_oracle() {
    let model = demo("demo-f16.gguf");
    let n_embd = model.config().n_embd;
    let names = ["story", "chat", "mail", "long-600"];
    let texts = names.map(|name| &prompt(name).feed[..]);
    let embed = |pooling, layer| {
        let rows = model
            .embed_batch(&texts, &EmbedOptions { pooling, layer, normalize: false, ..EmbedOptions::default() })
            .unwrap();
        rows.chunks_exact(n_embd).map(<[f32]>::to_vec).collect::<Vec<_>>()
    };
    // Sums of f32 in any order leave 1e-13.
    let check = |found: &[f32], expected: &[f32], what: String| {
        let (cosine, error) = (cosine(found, expected), nmse(found, expected));
        assert!(cosine >= 1.0 - 1e-6 && error <= 1e-9, "{what}: cosine 1 - {:e}, nmse {error:e}", 1.0 - cosine);
    };
    let (comma, eos) = (45, 65535);
    let poolings = [(Pooling::Last, "last"), (Pooling::Mean, "mean"), (Pooling::MeanOf(eos), "eos")];
    for (pooling, part) in poolings {
        for (found, name) in embed(pooling, Layer::Final).iter().zip(names) {
            check(found, &hidden(&format!("hidden_{part}.{name}")), format!("{part} {name}"));
        }
    }
    let commas = &embed(Pooling::MeanOf(comma), Layer::Final)[2];
    check(commas, &hidden("hidden_mean_of_commas.mail"), "commas of mail".into());
    for (pooling, part) in [(Pooling::Last, "last"), (Pooling::Mean, "mean")] {
        for layer in 0..model.config().n_layer {
            for (found, name) in embed(pooling, Layer::Residual(layer)).iter().zip(names) {
                let expected = hidden(&format!("residual_{part}.{name}"));
                check(found, &expected[layer * n_embd..][..n_embd], format!("{part} {name} layer {layer}"));
            }
        }
    }
}

#[test]
fn the_head_is_never_computed() {
    let plan = demo("demo-f16.gguf").plan().clone();
    let nodes_for = |value| &plan.nodes[..plan.n_nodes_for(&[value])];
    let head = |nodes: &[anser_model::Node]| nodes.iter().any(|n| n.name == "head");
    assert!(head(nodes_for(plan.logits.unwrap())));
    let hidden = plan.hidden.unwrap();
    assert!(plan.residuals.iter().copied().chain([hidden]).all(|value| !head(nodes_for(value))));
}

#[test]
fn progress_is_told_after_every_step_and_may_end_the_call() {
    let model = demo("demo-q8_0.gguf");
    let texts = [&prompt("long-600").ids[..], &prompt("mail").ids[..], &[1, 2, 3]];
    let options = EmbedOptions::default();
    let mut calls = vec![];
    let rows = model.embed_batch_for(&texts, &options, |done, total| {
        calls.push((done, total));
        ControlFlow::Continue(())
    });
    assert_eq!(rows.unwrap(), model.embed_batch(&texts, &options).unwrap());
    assert!(calls.len() > 3 && calls.is_sorted() && calls.last() == Some(&(3, 3)), "{calls:?}");
    let mut n_calls = 0;
    let ended = model.embed_batch_for(&texts, &options, |_, _| {
        n_calls += 1;
        ControlFlow::Break(())
    });
    assert!(matches!(ended, Err(Error::Cancelled)) && n_calls == 1);
}

/// Texts of very different lengths, more than are read side by side, an empty one among them.
fn texts() -> Vec<Vec<u32>> {
    let mut texts: Vec<Vec<u32>> = EXPECTED.prompts.iter().map(|p| p.ids.clone()).collect();
    let long = prompt("long-600").ids.clone();
    texts.extend((1..30).map(|i| long[i * 7..i * 7 + 1 + i * i % 37].to_vec()));
    texts
}

#[test]
fn a_batch_equals_its_texts_one_by_one() {
    let model = demo("demo-f16.gguf");
    let texts = texts();
    assert!(texts.iter().any(Vec::is_empty));
    let cases = [
        (Pooling::Last, Layer::Final, true),
        (Pooling::Mean, Layer::Residual(3), false),
        (Pooling::MeanOf(45), Layer::Final, false),
    ];
    for (pooling, layer, normalize) in cases {
        let options = EmbedOptions { pooling, layer, normalize, ..EmbedOptions::default() };
        let batch = model.embed_batch(&texts, &options).unwrap();
        let n_embd = model.config().n_embd;
        assert_eq!(batch.len(), texts.len() * n_embd);
        for (text, row) in texts.iter().zip(batch.chunks_exact(n_embd)) {
            let error = nmse(row, &model.embed(text, &options).unwrap());
            assert!(error <= 1e-10, "{options:?}, {} tokens: nmse {error:e}", text.len());
            let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            assert!(!normalize || (length - 1.0).abs() < 1e-5);
        }
    }
}

/// The rows that a session hands out are an independent way to the same numbers.
#[test]
fn poolings_and_layers_mean_what_they_say() {
    let model = demo("demo-f16.gguf");
    let text = &prompt("mail").ids;
    let n_embd = model.config().n_embd;
    let comma = 45;
    assert!(text.iter().filter(|&&t| t == comma).count() >= 2);
    let read = model.session().unwrap().feed_reading(text, &["ln_out", "blocks.3.ffn.x"]).unwrap();
    for (layer, activation) in [Layer::Final, Layer::Residual(3)].into_iter().zip(&read) {
        let rows: Vec<&[f32]> = activation.data.chunks_exact(n_embd).collect();
        assert_eq!(rows.len(), text.len());
        let mean = |rows: Vec<&[f32]>| -> Vec<f32> {
            let column = |i| rows.iter().map(|r| f64::from(r[i])).sum::<f64>() / rows.len() as f64;
            (0..n_embd).map(|i| column(i) as f32).collect()
        };
        let marked = rows.iter().zip(text).filter(|(_, t)| **t == comma).map(|(r, _)| *r).collect();
        let expected = [
            (Pooling::Last, rows[rows.len() - 1].to_vec()),
            (Pooling::MeanOf(comma), mean(marked)),
            (Pooling::Mean, mean(rows)),
        ];
        for (pooling, expected) in expected {
            let embedding = model
                .embed(text, &EmbedOptions { pooling, layer, normalize: false, ..EmbedOptions::default() })
                .unwrap();
            let error = nmse(&embedding, &expected);
            assert!(error <= 1e-10, "{layer:?} {pooling:?}: nmse {error:e}");
        }
    }
    // A text without the marked token gets one at its end.
    let options = EmbedOptions { pooling: Pooling::MeanOf(65535), ..EmbedOptions::default() };
    let with_mark = [text, &[65535][..]].concat();
    assert_eq!(model.embed(text, &options).unwrap(), model.embed(&with_mark, &EmbedOptions::default()).unwrap());
}

#[test]
fn a_look_inside_changes_nothing() {
    let model = demo("demo-f16.gguf");
    let tokens = &prompt("long-600").ids;
    let mut session = model.session().unwrap();
    let read = session.feed_reading(tokens, &["head", "blocks.0.att.w"]).unwrap();
    let mut plain = model.session().unwrap();
    let want = Want { logits: Which::All, hidden: Which::None };
    let fed = plain.feed_for(tokens, want, |_, _| ControlFlow::Continue(())).unwrap();
    assert_eq!(read[0].data, fed.logits);
    assert_eq!(session.state().unwrap(), plain.state().unwrap());
    // Decays lie between exp(-0.606531) and 1.
    assert!(read[1].data.iter().all(|w| (0.545..=1.0).contains(w)));
    let message = session.feed_reading(tokens, &["blocks.9.att.w"]).unwrap_err().to_string();
    assert!(message.contains("blocks.9.att.w"), "{message}");
}

#[test]
fn layers_out_of_range_are_refused() {
    let options = EmbedOptions { layer: Layer::Residual(6), ..EmbedOptions::default() };
    let error = demo("demo-q8_0.gguf").embed(&[1], &options).unwrap_err();
    assert!(matches!(error, Error::Option { option: "layer", .. }), "{error}");
}

#[test]
fn cached_embeddings_equal_computed_ones_and_are_bounded() {
    let n_embd = 256;
    let options = Options { embedding_cache_n_bytes: 10 * 4 * (n_embd + 40), ..Options::default() };
    let model = Model::embedded(&options).unwrap();
    let texts: Vec<Vec<u32>> = (0..8).map(|i| vec![100 + i; 3 + i as usize]).collect();
    let first = model.embed_batch(&texts, &EmbedOptions::default()).unwrap();
    let stats = model.embedding_cache_stats();
    assert_eq!((stats.n_hits, stats.n_misses, stats.n_entries), (0, 8, 8));
    assert_eq!(model.embed_batch(&texts, &EmbedOptions::default()).unwrap(), first);
    assert_eq!(model.embedding_cache_stats().n_hits, 8);
    // Other options are other embeddings.
    let mean = EmbedOptions { pooling: Pooling::Mean, ..EmbedOptions::default() };
    assert_ne!(model.embed(&texts[0], &mean).unwrap(), first[..n_embd]);
    for i in 0..50 {
        model.embed(&[7, i], &EmbedOptions::default()).unwrap();
        assert!(model.embedding_cache_stats().n_bytes <= options.embedding_cache_n_bytes);
    }
    assert_eq!(model.embed_batch(&texts, &EmbedOptions::default()).unwrap(), first);
}

#[test]
fn shared_prefixes_are_read_once_and_exactly() {
    let model = demo("demo-q8_0.gguf");
    let prefix = &prompt("long-600").ids[..200];
    let state_n_bytes = 4 * (model.state_layout().len() + model.config().n_vocab + 300);
    let mut cache = PrefixCache::new(&model, 3 * state_n_bytes);
    assert_eq!(cache.read(prefix).unwrap().1, 0);
    for tail in [[5, 6, 7], [8, 9, 10], [11, 12, 13]] {
        let tokens = [prefix, &tail[..]].concat();
        let (mut session, n_reused) = cache.read(&tokens).unwrap();
        assert_eq!(n_reused, 200);
        let mut plain = model.session().unwrap();
        plain.feed(prefix).unwrap();
        plain.feed(&tail).unwrap();
        assert_eq!(session.logits(), plain.logits());
        assert_eq!(session.state().unwrap(), plain.state().unwrap());
        // The very same tokens again cost nothing.
        let (again, n_reused) = cache.read(&tokens).unwrap();
        assert_eq!((n_reused, again.logits()), (203, plain.logits()));
        assert!(cache.stats().n_bytes <= 3 * state_n_bytes);
    }
    assert_eq!(cache.stats().n_entries, 3);
    // One token differs: nothing may be reused.
    let mut other = prefix.to_vec();
    other[0] += 1;
    assert_eq!(cache.read(&other).unwrap().1, 0);
    assert_eq!((cache.stats().n_hits, cache.stats().n_misses), (6, 2));
    // The cache dropped the least recently used state, and kept the prefix while it was in use.
    assert_eq!(cache.read(&[prefix, &[5, 6, 7]].concat()).unwrap().1, 200);
}

#[test]
fn a_beginning_that_texts_turn_out_to_share_is_read_twice() {
    let model = demo("demo-q8_0.gguf");
    let long = &prompt("long-600").ids;
    let text = |tail: usize| [&long[..100], &long[100 * tail..][..40]].concat();
    for mut cache in [PrefixCache::new(&model, 1 << 26), PrefixCache::on_device(&model, 1 << 26)] {
        let n_reused = [2, 3, 4, 2].map(|tail| cache.read(&text(tail)).unwrap().1);
        assert_eq!(n_reused, [0, 0, 100, 140]);
        let (mut session, n_reused) = cache.read(&text(5)).unwrap();
        assert_eq!(n_reused, 100);
        let mut plain = model.session().unwrap();
        plain.feed(&long[..100]).unwrap();
        plain.feed(&text(5)[100..]).unwrap();
        assert_eq!(session.logits(), plain.logits());
        assert_eq!(session.state().unwrap(), plain.state().unwrap());
        // A handful of common tokens is not worth a state.
        assert_eq!(cache.stats().n_entries, 5);
        for last in [1, 2, 3] {
            assert_eq!(cache.read(&[&long[300..310], &[last]].concat()).unwrap().1, 0);
        }
        assert_eq!(cache.stats().n_entries, 8);
    }
}

#[test]
fn a_prefix_cache_without_room_reads_everything() {
    let model = demo("demo-q8_0.gguf");
    let mut cache = PrefixCache::new(&model, 1000);
    for _ in 0..2 {
        assert_eq!(cache.read(&[1, 2, 3]).unwrap().1, 0);
    }
    assert_eq!((cache.stats().n_entries, cache.stats().n_bytes), (0, 0));
}
