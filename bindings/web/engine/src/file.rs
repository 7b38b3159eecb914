//! A model's file: in memory as it arrives, or read by a function of JavaScript.

use crate::error::refused;
use anser_format::ReadAt;
use std::cell::RefCell;
use std::io;
use wasm_bindgen::prelude::*;

thread_local! {
    /// The functions that read files. An engine's file may be sent to other threads, which a function of JavaScript must not: so the file
    /// knows only its place here.
    static READERS: RefCell<Vec<Option<js_sys::Function>>> = const { RefCell::new(vec![]) };
}

/// A file that a function of JavaScript reads: `read(offset, length)` returns a `Uint8Array` at once.
#[derive(Debug)]
pub(crate) struct Reader {
    place: usize,
    n_bytes: u64,
}

impl Reader {
    pub(crate) fn new(read: js_sys::Function, n_bytes: u64) -> Reader {
        READERS.with_borrow_mut(|readers| {
            readers.push(Some(read));
            Reader { place: readers.len() - 1, n_bytes }
        })
    }
}

impl ReadAt for Reader {
    fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let read = READERS.with_borrow(|readers| readers.get(self.place).cloned().flatten());
        let read = read.ok_or_else(|| io::Error::other("the file is closed"))?;
        let bytes = read.call2(&JsValue::NULL, &(offset as f64).into(), &(into.len() as f64).into());
        let bytes = bytes.map_err(|thrown| {
            let message = thrown.dyn_ref::<js_sys::Error>().map(|error| String::from(error.message()));
            io::Error::other(message.unwrap_or_else(|| "it cannot be read".into()))
        })?;
        let bytes = bytes.dyn_into::<js_sys::Uint8Array>().map_err(|_| io::Error::other("no bytes were returned"))?;
        if bytes.length() as usize != into.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.copy_to(into);
        Ok(())
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
