//! Importance matrices that are written and merged.

use crate::harness::{fixture, formats};
use anser_convert::{ConvertError, ImportanceMatrix};
use anser_format::{MetaValue, ModelFile};

fn made(file: &str, entries: &[(&str, &[f64], u64)], n_chunks: u32) -> ImportanceMatrix {
    let mut matrix = ImportanceMatrix::of_text(file, file, 4);
    entries.iter().for_each(|(name, sums, n_rows)| matrix.add(name, sums, *n_rows).unwrap());
    matrix.add_chunks(n_chunks);
    matrix
}

/// The files that llama-imatrix's forms were restated as, read and written again: the same bytes, or the same entries.
#[test]
fn both_forms_survive_reading_and_writing() {
    let gguf = ImportanceMatrix::from_gguf(&formats("quant/q7-imatrix.gguf")).unwrap();
    let again = ModelFile::from_bytes("again", gguf.to_gguf().unwrap()).unwrap();
    for key in ["imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size", "general.type"] {
        let of = |file: &ModelFile| file.metadata(key).cloned();
        assert_eq!(of(&again), of(&formats("quant/q7-imatrix.gguf")), "{key}");
    }
    let original = formats("quant/q7-imatrix.gguf");
    for info in original.tensors() {
        let (a, b) = (original.tensor(info.name).unwrap(), again.tensor(info.name).unwrap());
        assert_eq!((a.bytes(), a.dtype()), (b.bytes(), b.dtype()), "{}", info.name);
    }
    let bytes = std::fs::read(fixture("unpacked/formats/quant/q7-imatrix.dat")).unwrap();
    let dat = ImportanceMatrix::from_dat("dat", &bytes).unwrap();
    let again = ImportanceMatrix::from_dat("again", &dat.to_dat().unwrap()).unwrap();
    assert_eq!(again.n_entries(), dat.n_entries());
    assert_eq!((again.n_chunks(), again.datasets()), (dat.n_chunks(), dat.datasets()));
    for name in dat.names() {
        for (a, b) in dat.get(name).unwrap().iter().zip(again.get(name).unwrap()) {
            assert!((a / b - 1.0).abs() < 1e-6, "{name}: {a} {b}");
        }
    }
}

#[test]
fn sums_and_counts_are_added() {
    let mut a = made("a", &[("x", &[1.0, 8.0], 4), ("y", &[2.0], 4)], 1);
    let b = made("b", &[("x", &[5.0, 0.0], 8), ("z", &[9.0], 3)], 2);
    a.merge(&b).unwrap();
    assert_eq!(a.get("x").unwrap(), [0.5, 8.0 / 12.0]);
    assert_eq!((a.get("y").unwrap(), a.get("z").unwrap()), (&[0.5][..], &[3.0][..]));
    assert_eq!((a.n_chunks(), a.datasets().join(" ")), (Some(3), "a b".into()));
    let file = ModelFile::from_bytes("merged", a.to_gguf().unwrap()).unwrap();
    assert_eq!(file.metadata("imatrix.chunk_size").and_then(MetaValue::as_u64), Some(4));
    assert_eq!(file.tensor("x.counts").unwrap().bytes(), 12f32.to_le_bytes());
    // A piece has four tokens, so that a form that counts pieces has a quarter of the sums.
    let dat = ImportanceMatrix::from_dat("dat", &made("a", &[("x", &[6.0, 2.0], 8)], 2).to_dat().unwrap()).unwrap();
    assert_eq!(dat.get("x").unwrap(), [0.75, 0.25]);
    let mut c = made("c", &[("x", &[2.0, 6.0], 8)], 2);
    c.merge(&dat.clone().in_tokens(4).unwrap()).unwrap();
    assert_eq!(c.get("x").unwrap(), [0.5, 0.5]);
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let problem = |result: Result<(), ConvertError>| result.unwrap_err().to_string();
    let a = || made("a", &[("x", &[1.0, 8.0], 4)], 1);
    let told = problem(a().merge(&made("b", &[("x", &[1.0], 4)], 1)));
    assert!(told.contains("b: entry \"x\": expected 2 columns, found 1"), "{told}");
    let dat = ImportanceMatrix::from_dat("d.dat", &a().to_dat().unwrap()).unwrap();
    let told = problem(a().merge(&dat));
    assert!(told.contains("d.dat") && told.contains("--chunk"), "{told}");
    assert!(dat.to_gguf().unwrap_err().to_string().contains("--chunk"));
    let mut other = ImportanceMatrix::of_text("o", "o", 5);
    other.add("x", &[1.0, 1.0], 5).unwrap();
    let told = problem(a().merge(&other));
    assert!(told.contains("5 tokens") && told.contains('4'), "{told}");
    assert!(a().in_tokens(5).is_err());
    assert!(ImportanceMatrix::of_text("e", "e", 4).to_gguf().is_err());
    assert!(problem(made("f", &[("x", &[1e300], 1)], 1).to_gguf().map(drop)).contains("fewer chunks"));
}
