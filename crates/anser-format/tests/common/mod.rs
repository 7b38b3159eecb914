//! What the tests share: where the fixtures are, and reading everything that a file offers.

use std::path::PathBuf;

use anser_format::ModelFile;

/// A file below the repository's `fixtures` folder.
pub(crate) fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

/// Reads every byte, name and metadata string that a file offers, and checks that views are as long as they claim.
pub(crate) fn walk(file: &std::sync::Arc<ModelFile>) -> u64 {
    let mut sum = 0;
    for info in file.tensors() {
        sum += info.name.len() as u64 + info.stored.name().len() as u64;
        let Some(view) = info.view() else {
            assert!(file.tensor(info.name).is_none());
            continue;
        };
        let (n_cols, outer) = view.shape.split_last().map_or((1, &[][..]), |(&n_cols, outer)| (n_cols, outer));
        let n_bytes = view.dtype.row_n_bytes(n_cols).expect("whole blocks") * outer.iter().product::<usize>();
        assert_eq!(view.bytes.len(), n_bytes, "{}", view.name);
        sum += view.bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>();
        assert_eq!(file.tensor(view.name).expect("a listed tensor").bytes().len(), n_bytes);
    }
    for (key, value) in file.metadata_entries() {
        assert!(file.metadata(key).is_some());
        sum += value.as_str_array().map_or(0, |strings| strings.iter().map(|string| string.len() as u64).sum());
        sum += value.as_array().map_or(0, |array| array.len() as u64);
        sum += value.to_string().len() as u64;
    }
    sum
}
