//! A model's file: in memory as it arrives, or read by a function of JavaScript.

use crate::error::refused;
use anser_format::ReadAt;
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

#[wasm_bindgen]
extern "C" {
    /// A file that JavaScript reads.
    #[wasm_bindgen(
        typescript_type = "{ read(offset: number, into: Uint8Array): number; prepare(offset: number, length: number): Promise<void> }"
    )]
    #[derive(Debug, Clone)]
    pub type FileReader;

    /// Fills `into`, which is this module's memory, with the bytes from `offset` on, at once. Returns how many there were.
    #[wasm_bindgen(method, structural, catch)]
    fn read(this: &FileReader, offset: f64, into: &mut [u8]) -> Result<f64, JsValue>;

    /// Gets bytes ready that are read next. What fails fails again when they are read.
    #[wasm_bindgen(method, structural, catch)]
    fn prepare(this: &FileReader, offset: f64, n_bytes: f64) -> Result<js_sys::Promise, JsValue>;
}

thread_local! {
    /// The readers of files. An engine's file may be sent to other threads, which an object of JavaScript must not: so the file knows
    /// only its place here.
    static READERS: RefCell<Vec<Option<FileReader>>> = const { RefCell::new(vec![]) };
}

/// A file that JavaScript reads.
#[derive(Debug)]
pub(crate) struct Reader {
    place: usize,
    n_bytes: u64,
}

impl Reader {
    pub(crate) fn new(reader: FileReader, n_bytes: u64) -> Reader {
        READERS.with_borrow_mut(|readers| {
            readers.push(Some(reader));
            Reader { place: readers.len() - 1, n_bytes }
        })
    }

    fn file(&self) -> Option<FileReader> {
        READERS.with_borrow(|readers| readers.get(self.place).cloned().flatten())
    }
}

impl ReadAt for Reader {
    fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let reader = self.file().ok_or_else(|| io::Error::other("the file is closed"))?;
        let n_read = reader.read(offset as f64, into).map_err(|thrown| {
            let message = thrown.dyn_ref::<js_sys::Error>().map(|error| String::from(error.message()));
            io::Error::other(message.unwrap_or_else(|| "it cannot be read".into()))
        })?;
        if n_read != into.len() as f64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    fn prepare(&self, offset: u64, n_bytes: u64) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(async move {
            let promise = self.file().map(|file| file.prepare(offset as f64, n_bytes as f64));
            if let Some(Ok(promise)) = promise {
                // What fails here fails again in `read_at`, which tells it.
                let _ = JsFuture::from(promise).await;
            }
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        READERS.with_borrow_mut(|readers| {
            if let Some(reader) = readers.get_mut(self.place) {
                *reader = None;
            }
        });
    }
}

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
