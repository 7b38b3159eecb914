//! Functions that several fuzz targets call.

use anser_format::ModelFile;
use anser_format::quant::dequantize;
use std::sync::Arc;

/// Opens `bytes` as a model file and reads all that a program reads of it, without running the model.
pub fn read_model_file(bytes: &[u8]) {
    let Ok(file) = ModelFile::from_bytes("fuzz", bytes.to_vec()) else { return };
    use_model_file(&file);
}

/// Does this with a model in two parts: the first `n_first` bytes, and the other bytes.
pub fn read_parts(bytes: &[u8], n_first: usize) {
    let (first, second) = bytes.split_at(n_first.min(bytes.len()));
    let parts = vec![("first".to_owned(), first.to_vec()), ("second".to_owned(), second.to_vec())];
    if let Ok(file) = ModelFile::from_parts("fuzz", parts) {
        assert_eq!(file.n_bytes(), bytes.len());
        use_model_file(&file);
    }
}

/// Reads all that a program reads of an open model file, without running the model.
pub fn use_model_file(file: &Arc<ModelFile>) {
    for info in file.tensors() {
        let Some(view) = info.view() else {
            assert!(file.tensor(info.name).is_none());
            continue;
        };
        let n_elements: usize = view.shape.iter().product();
        assert_eq!(n_elements / view.dtype.block_len() * view.dtype.block_n_bytes(), view.bytes.len());
        let first = view.bytes.get(..view.dtype.block_n_bytes());
        if let Some(block) = first {
            dequantize(view.dtype, block, &mut vec![0.0; view.dtype.block_len()]);
        }
        assert!(file.tensor(view.name).is_some());
    }
    for (key, value) in file.metadata_entries() {
        assert!(file.metadata(key).is_some());
        if let Some(strings) = value.as_str_array() {
            let types = std::iter::repeat(1);
            if let Ok(tokenizer) = anser_tokenizer::Tokenizer::from_gguf(strings.iter().zip(types)) {
                let text = b"a text \xff\xff";
                assert_eq!(tokenizer.decode(&tokenizer.encode(text)).as_deref(), Ok(&text[..]));
            }
        }
    }
    if let Ok((_, plan)) = anser_model::load(file) {
        assert!(!plan.to_string().is_empty());
    }
}
