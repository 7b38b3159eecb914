//! A model's file as it arrives.

use crate::error::refused;
use wasm_bindgen::prelude::*;

/// A file that is read piece by piece into memory which is taken once.
#[wasm_bindgen]
#[derive(Debug)]
pub struct FileBuilder {
    name: String,
    bytes: Vec<u8>,
    n_bytes: usize,
}

#[wasm_bindgen]
impl FileBuilder {
    /// A file of `n_bytes` bytes.
    ///
    /// # Errors
    /// If the memory of WebAssembly has no room for it.
    #[wasm_bindgen(constructor)]
    pub fn new(name: String, n_bytes: f64) -> Result<FileBuilder, JsValue> {
        let too_large = || {
            let mib = n_bytes / f64::from(1 << 20);
            refused(&format!(
                "{name}: {mib:.0} MiB are more than the memory of WebAssembly has room for; use a GPU or a smaller file"
            ))
        };
        if !(0.0..f64::from(u32::MAX)).contains(&n_bytes) {
            return Err(too_large());
        }
        let mut bytes = vec![];
        bytes.try_reserve_exact(n_bytes as usize).map_err(|_| too_large())?;
        Ok(FileBuilder { name, bytes, n_bytes: n_bytes as usize })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// If they are more than were announced.
    pub fn push(&mut self, piece: &js_sys::Uint8Array) -> Result<(), JsValue> {
        let start = self.bytes.len();
        let end = start + piece.length() as usize;
        if end > self.n_bytes {
            return Err(refused(&format!("{}: expected {} bytes, found at least {end}", self.name, self.n_bytes)));
        }
        self.bytes.resize(end, 0);
        piece.copy_to(&mut self.bytes[start..]);
        Ok(())
    }
}

impl FileBuilder {
    /// The file's name and bytes.
    ///
    /// Errors: bytes are missing.
    pub(crate) fn finish(self) -> Result<(String, Vec<u8>), JsValue> {
        if self.bytes.len() < self.n_bytes {
            let (found, expected) = (self.bytes.len(), self.n_bytes);
            return Err(refused(&format!("{}: expected {expected} bytes, found {found}", self.name)));
        }
        Ok((self.name, self.bytes))
    }
}
