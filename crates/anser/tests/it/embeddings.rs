//! Embeddings in batches, caches, and looks inside the model.

use crate::fixtures::{EXPECTED, demo, prompt};
use anser::{EmbedOptions, Error, Layer, Model, Options, Pooling, PrefixCache, Want, Which};
use anser_model::cases::nmse;
use std::ops::ControlFlow;

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
        let options = EmbedOptions { pooling, layer, normalize };
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
            let embedding = model.embed(text, &EmbedOptions { pooling, layer, normalize: false }).unwrap();
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
}
