//! Telling formats apart by content, since names and extensions lie.

use crate::torch::LEGACY_MAGIC;

/// What the first bytes of a file announce.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sniffed {
    /// The magic of GGUF.
    Gguf,
    /// A length followed by a JSON object.
    Safetensors,
    /// A zip archive, as PyTorch's files are.
    Zip,
    /// The magic of PyTorch's files before version 1.6.
    TorchLegacy,
    /// Something else.
    Other {
        /// What it seems to be.
        found: &'static str,
        /// What to do about it.
        advice: &'static str,
    },
}

const GET_AGAIN: &str = "the download failed or is incomplete, get the file again";
const UNPACK: &str = "unpack it first";
const SAVE_AGAIN: &str = "save a dictionary of the model's tensors with torch.save";
const NEED: &str = "a GGUF, safetensors or PyTorch model is needed";

/// Magics at the start of files that people mistake for models, each with what it means and what to do.
const MAGICS: [(&[u8], &str, &str); 15] = [
    (b"PK\x05\x06", "an empty zip archive", GET_AGAIN),
    (b"\x80\x02", "a Python pickle that torch.save did not write", SAVE_AGAIN),
    (b"\x80\x03", "a Python pickle that torch.save did not write", SAVE_AGAIN),
    (b"\x80\x04", "a Python pickle that torch.save did not write", SAVE_AGAIN),
    (b"\x1f\x8b", "a gzip archive", UNPACK),
    (b"\xfd7zXZ\0", "an xz archive", UNPACK),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", UNPACK),
    (b"BZh", "a bzip2 archive", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", UNPACK),
    (b"\x89HDF", "an HDF5 file", NEED),
    (b"fmgg", "an rwkv.cpp model older than GGUF", "convert the original model to GGUF"),
    (b"lmgg", "a ggml model older than GGUF", "convert the original model to GGUF"),
    (b"tjgg", "a ggml model older than GGUF", "convert the original model to GGUF"),
    (b"version https://git-lfs", "a Git LFS pointer", "run `git lfs pull` to get the model it points to"),
    (b"%PDF", "a PDF document", NEED),
];

/// Bytes at the beginning of a file that tell what it is.
pub(crate) const HEAD_N_BYTES: usize = 512;

/// Classifies a file by its first [`HEAD_N_BYTES`].
pub(crate) fn sniff(bytes: &[u8]) -> Sniffed {
    let other = |found, advice| Sniffed::Other { found, advice };
    if bytes.is_empty() {
        return other("an empty file", GET_AGAIN);
    }
    if bytes.starts_with(b"GGUF") {
        return Sniffed::Gguf;
    }
    // A 64-bit header length with its upper half zero, then JSON. Before the magics, since a length may look like one.
    if bytes.get(4..9) == Some(b"\0\0\0\0{") {
        return Sniffed::Safetensors;
    }
    if bytes.starts_with(b"PK\x03\x04") {
        return Sniffed::Zip;
    }
    if bytes.starts_with(LEGACY_MAGIC) {
        return Sniffed::TorchLegacy;
    }
    if let Some(&(_, found, advice)) = MAGICS.iter().find(|(magic, ..)| bytes.starts_with(magic)) {
        return other(found, advice);
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return other(
            "a tar archive, as PyTorch wrote before version 0.1.10",
            "load it with PyTorch and save it again, or unpack it",
        );
    }
    let head = &bytes[..bytes.len().min(HEAD_N_BYTES)];
    if let Some(text) = as_text(head) {
        let text = text.trim_start();
        let starts = |word: &str| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
        return if starts("<!doctype") || starts("<html") || starts("<head") {
            other("an HTML page", "the download failed: a web page was saved instead of the model, get the file again")
        } else if text.starts_with(['{', '[']) {
            other("a JSON text", "name the model's weight file instead")
        } else {
            other("a text file", NEED)
        };
    }
    if head.iter().all(|&byte| byte == 0) {
        return other("a file that starts with zeros only", GET_AGAIN);
    }
    other("no GGUF, safetensors or PyTorch file", "check that it is the model's weight file and is complete")
}

/// The bytes as text, if they are UTF-8 (a character cut off at the end aside) without control characters.
fn as_text(head: &[u8]) -> Option<&str> {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&head[..error.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    let is_plain = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    (!text.is_empty() && text.chars().all(is_plain)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(bytes: &[u8]) -> &'static str {
        match sniff(bytes) {
            Sniffed::Other { found, .. } => found,
            Sniffed::Gguf => "gguf",
            Sniffed::Safetensors => "safetensors",
            Sniffed::Zip => "zip",
            Sniffed::TorchLegacy => "legacy",
        }
    }

    #[test]
    fn models_are_told_from_what_passes_for_them() {
        assert_eq!(found(b"GGUF\x03\0\0\0"), "gguf");
        assert_eq!(found(b"\x40\x01\0\0\0\0\0\0{\"emb\":"), "safetensors");
        assert_eq!(found(b"\x80\x02\0\0\0\0\0\0{\"emb\":"), "safetensors");
        assert_eq!(found(b"\x80\x02}q\0X\x05\0\0"), "a Python pickle that torch.save did not write");
        assert_eq!(found(LEGACY_MAGIC), "legacy");
        assert_eq!(found(b""), "an empty file");
        assert_eq!(found(b"\n <!DOCTYPE html><html>"), "an HTML page");
        assert_eq!(found(b"<HTML>"), "an HTML page");
        assert_eq!(found(b"{\"model_type\": \"rwkv7\"}"), "a JSON text");
        assert_eq!(found("12345678{ é".as_bytes()), "a text file");
        assert_eq!(found(b"version https://git-lfs.example/spec/v1\noid"), "a Git LFS pointer");
        assert_eq!(found(&[0; 4096]), "a file that starts with zeros only");
        assert_eq!(found(&[0xff; 600]), "no GGUF, safetensors or PyTorch file");
        assert_eq!(found(b"PK\x03\x04\0\0"), "zip");
    }

    #[test]
    fn text_cut_inside_a_character_is_still_text() {
        let text = "é".repeat(300);
        assert_eq!(found(&text.as_bytes()[..511]), "a text file");
    }
}
