//! State files: their models, their kinds, and that equal states are equal files. Damaged weights give an error and no
//! numbers.

use crate::fixtures::{demo, root};
use anser::{
    Conversation, EmbedOptions, Error, Model, Options, Pooling, PrefixCache, Session, StateOrigin, Want, Which,
};
use anser_format::ModelFile;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

const TINY: &str = "fixtures/tiny/tiny-v7mini-f16.gguf";

/// A copy of the tiny model with the bytes of some tensors changed.
fn changed(folder: &Path, name: &str, tensors: &[&str], change: impl Fn(&mut [u8])) -> PathBuf {
    let mut bytes = std::fs::read(root().join(TINY)).unwrap();
    let file = ModelFile::from_bytes("tiny", bytes.clone()).unwrap();
    for tensor in tensors {
        let tensor = file.tensor(tensor).unwrap();
        let old = tensor.bytes();
        let at = bytes.windows(old.len()).position(|window| window == old).unwrap();
        change(&mut bytes[at..][..old.len()]);
    }
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn load(path: impl AsRef<Path>) -> Model {
    Model::load(path, &Options { device: anser::Device::Cpu, ..Options::default() }).unwrap()
}

fn after(model: &Model, tokens: &[u32]) -> Session {
    let mut session = model.session().unwrap();
    session.feed(tokens).unwrap();
    session
}

/// Name, shape and numbers of a tensor.
type Tensor = (String, Vec<usize>, Vec<f32>);

/// A safetensors file with these f32 tensors and this header.
fn safetensors(tensors: &[Tensor], header: Option<HashMap<String, String>>) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> = tensors.iter().map(|t| t.2.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, shape, _), bytes)| (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    safetensors::serialize(views, header).unwrap()
}

/// Header and tensors of a state file, read by another library than the one that reads it here.
fn parts(bytes: &[u8]) -> (HashMap<String, String>, Vec<Tensor>) {
    let header = SafeTensors::read_metadata(bytes).unwrap().1.metadata().clone().unwrap();
    let tensors = SafeTensors::deserialize(bytes).unwrap();
    let numbers = |bytes: &[u8]| bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let tensors = tensors.iter().map(|(name, t)| (name.to_owned(), t.shape().to_vec(), numbers(t.data()))).collect();
    (header, tensors)
}

#[test]
fn equal_states_are_equal_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let mut saved = vec![];
    for _ in 0..3 {
        let mut session = after(&load(root().join(TINY)), &[1, 2, 3]);
        session.save_state(&path).unwrap();
        saved.push(std::fs::read(&path).unwrap());
    }
    assert!(saved.iter().all(|bytes| *bytes == saved[0]));
    // Older versions of Anser read version 1 and know a model by this fingerprint.
    let model = load(root().join(TINY));
    let (header, tensors) = parts(&saved[0]);
    for (key, value) in [("format", "anser-state"), ("version", "1"), ("fingerprint", model.fingerprint())] {
        assert_eq!(header[key], value);
    }
    let mut session = after(&model, &[1, 2, 3]);
    let state = session.state().unwrap();
    for (name, shape) in [("att_shift", vec![2, 64]), ("wkv", vec![2, 1, 64, 64]), ("ffn_shift", vec![2, 64])] {
        let tensor = tensors.iter().find(|t| t.0 == name).unwrap();
        assert_eq!((&tensor.1, &tensor.2[..]), (&shape, state.part(name).unwrap()));
    }
    assert_eq!(tensors.iter().find(|t| t.0 == "logits").unwrap().2, session.logits());
}

#[test]
fn all_files_of_a_model_share_states_and_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let models =
        ["demo.st", "demo-f16.gguf", "demo-q8_0.gguf", "demo-q6_k.gguf", "demo-q5_k_m.gguf", "demo-q4_k_m.gguf"]
            .map(demo);
    let path = folder.path().join("s");
    for (i, from) in models.iter().enumerate() {
        after(from, &[5, 6]).save_state(&path).unwrap();
        for (j, to) in models.iter().enumerate() {
            let origin = to.load_state(&path).unwrap().origin;
            assert_eq!(origin == StateOrigin::SameFile, i == j, "{} {}: {origin:?}", from.name(), to.name());
            assert_eq!(origin.remark().is_some(), i != j);
            assert!(origin.remark().is_none_or(|remark| remark.contains("fine-tune")));
        }
    }
    let tiny = ["tiny-v7mini.st", "tiny-v7mini-f16.gguf"].map(|name| load(root().join("fixtures/tiny").join(name)));
    assert!(tiny[0].identity().unwrap().is_same_model(tiny[1].identity().unwrap()));
}

#[test]
fn states_of_fine_tunes_are_remarked_on_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let base = load(root().join(TINY));
    let path = folder.path().join("s");
    let mut session = after(&base, &[97, 98]);
    session.save_state(&path).unwrap();
    let state = session.state().unwrap();

    // As low-rank fine-tunes do: matrices change, vectors stay.
    let matrices = ["blk.0.time_mix_key.weight", "blk.1.time_mix_value.weight"];
    let matrices = load(changed(folder.path(), "matrices.gguf", &matrices, |bytes| bytes.rotate_left(10)));
    assert_eq!(matrices.load_state(&path).unwrap().origin, StateOrigin::OtherFile);

    // As full fine-tunes do, which change vectors too: here those of one layer's decay, by a sixteenth.
    let grow = |bytes: &mut [u8]| {
        for x in bytes.chunks_exact_mut(4) {
            let grown = f32::from_le_bytes(x.try_into().unwrap()) * 1.0625;
            x.copy_from_slice(&grown.to_le_bytes());
        }
    };
    let vectors = load(changed(folder.path(), "vectors.gguf", &["blk.1.time_mix_w0.weight"], grow));
    assert_eq!(vectors.fingerprint(), base.fingerprint(), "the final norm is the same");
    let refused = vectors.load_state(&path).unwrap_err().to_string();
    assert!(refused.contains("a state of another model, one of the same sizes"), "{refused}");
    let mut other = vectors.session().unwrap();
    let refused = other.restore(&state).unwrap_err().to_string();
    assert!(refused.contains("a state of another model"), "{refused}");
    assert!(other.is_fresh());
    // Numbers of which nothing is known fit wherever their layout does.
    let layout = vectors.state_layout().clone();
    other.restore(&anser::State::from_vec(layout, state.data().to_vec()).unwrap()).unwrap();
    let mut cache = PrefixCache::new(&base, 1 << 24);
    let refused = cache.insert(&[1], &mut after(&vectors, &[1])).unwrap_err().to_string();
    assert!(refused.contains("vectors.gguf") && refused.contains("tiny-v7mini-f16.gguf"), "{refused}");
}

#[test]
fn states_that_older_versions_saved_are_read_with_a_remark() {
    let folder = tempfile::tempdir().unwrap();
    let model = load(root().join(TINY));
    let path = folder.path().join("s");
    let mut session = after(&model, &[97, 98]);
    session.save_state(&path).unwrap();
    let (mut header, mut tensors) = parts(&std::fs::read(&path).unwrap());
    header.remove("digest");
    tensors.retain(|(name, ..)| name != "model_samples");
    std::fs::write(&path, safetensors(&tensors, Some(header.clone()))).unwrap();
    let loaded = model.load_state(&path).unwrap();
    assert_eq!((loaded.origin, loaded.state), (StateOrigin::Unverified, session.state().unwrap()));
    assert_eq!(loaded.logits, session.logits());
    assert!(loaded.origin.remark().unwrap().contains("older version"));
    header.insert("fingerprint".into(), "0".repeat(64));
    std::fs::write(&path, safetensors(&tensors, Some(header))).unwrap();
    assert!(model.load_state(&path).unwrap_err().to_string().contains("another model"));
}

#[test]
fn tuned_states_are_read_wherever_states_are() {
    let folder = tempfile::tempdir().unwrap();
    let model = load(root().join(TINY));
    let path = folder.path().join("tuned.st");
    let tensors: Vec<_> = (0..2)
        .map(|layer| {
            let numbers = (0..64 * 64).map(|i| ((i * 7919 + layer) % 31) as f32 / 8.0 - 2.0).collect();
            (format!("blocks.{layer}.att.time_state"), vec![1, 64, 64], numbers)
        })
        .collect();
    std::fs::write(&path, safetensors(&tensors, None)).unwrap();
    let mut session = after(&model, &[9]);
    assert_eq!(session.load_state(&path).unwrap(), StateOrigin::Tuned);
    assert!(session.is_fresh() && session.logits().is_empty());
    assert_eq!(session.state().unwrap(), model.import_state(&path).unwrap());
    assert_eq!(StateOrigin::Tuned.remark(), None);
    let mut chat = Conversation::new(&model, Default::default()).unwrap();
    assert_eq!(chat.load(&path).unwrap(), StateOrigin::Tuned);

    let missing = safetensors(&tensors[..1], None);
    let refused = model.state_from_bytes("s", missing).unwrap_err().to_string();
    assert!(refused.contains("blocks.1.att.time_state is missing"), "{refused}");
    let other = vec![("emb.weight".to_string(), vec![2], vec![0.0, 1.0])];
    let refused = model.state_from_bytes("s", safetensors(&other, None)).unwrap_err().to_string();
    assert!(refused.starts_with("s: not a state file: "), "{refused}");
}

#[cfg(unix)]
#[test]
fn endless_files_are_refused_and_pipes_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let model = load(root().join(TINY));
    let refused = model.load_state("/dev/zero").unwrap_err().to_string();
    assert!(refused.starts_with("/dev/zero: not a state of this model"), "{refused}");
    let refused = anser::read_vocabulary("/dev/zero").unwrap_err().to_string();
    assert!(refused.starts_with("/dev/zero: a vocabulary file has at most 67108864 bytes"), "{refused}");

    let (path, pipe) = (folder.path().join("s"), folder.path().join("pipe"));
    let mut session = after(&model, &[97, 98]);
    session.save_state(&path).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::thread::scope(|scope| {
        scope.spawn(|| std::fs::copy(&path, &pipe).unwrap());
        assert_eq!(model.load_state(&pipe).unwrap().state, session.state().unwrap());
    });
}

#[test]
fn a_state_never_overwrites_its_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = changed(folder.path(), "m.gguf", &[], |_| ());
    let before = std::fs::read(&path).unwrap();
    let hard = folder.path().join("hard");
    std::fs::hard_link(&path, &hard).unwrap();
    let mut session = after(&load(&path), &[1]);
    for out in [&path, &hard] {
        assert!(matches!(session.save_state(out), Err(Error::Output { .. })));
    }
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn numbers_of_damaged_weights_are_not_handed_out() {
    let folder = tempfile::tempdir().unwrap();
    let put = |value: f32| move |bytes: &mut [u8]| bytes[..4].copy_from_slice(&value.to_le_bytes());
    for (name, tensor, value) in [
        ("norm.gguf", "blk.0.attn_norm.weight", f32::NAN),
        ("last.gguf", "output_norm.bias", f32::NAN),
        ("infinite.gguf", "output_norm.bias", f32::INFINITY),
    ] {
        let model = load(changed(folder.path(), name, &[tensor], put(value)));
        let told = |result: Result<(), Error>| {
            let error = result.unwrap_err();
            let message = error.to_string();
            assert!(matches!(error, Error::NotFinite { .. }), "{message}");
            assert!(message.contains(name) && message.contains("the weights are damaged"), "{message}");
        };
        for options in [
            EmbedOptions::default(),
            EmbedOptions { normalize: true, ..Default::default() },
            EmbedOptions { pooling: Pooling::Mean, normalize: true, ..Default::default() },
        ] {
            told(model.embed(&[1, 2], &options).map(drop));
            told(model.embed_batch(&[vec![1, 2], vec![3]], &options).map(drop));
        }
        let go_on = |_, _| ControlFlow::Continue(());
        let hidden = Want { logits: Which::None, hidden: Which::All };
        told(model.session().unwrap().feed_for(&[1, 2], hidden, go_on).map(drop));
        told(model.session().unwrap().feed(&[1, 2]));
        told(model.perplexity(&[1, 2, 3], go_on).map(drop));
        let mut session = model.session().unwrap();
        told(model.feed_batch(&mut [(&mut session, &[1, 2])], Want::LOGITS).map(drop));
        if tensor != "output_norm.bias" {
            // Every later token would be spoilt.
            let mut session = model.session().unwrap();
            session.feed_for(&[1, 2], Want::NOTHING, go_on).unwrap();
            told(session.state().map(drop));
            told(session.save_state(folder.path().join("s")));
            assert!(!folder.path().join("s").exists());
        }
    }
}
