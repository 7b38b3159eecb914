//! Backslash escapes, as Python writes them in `repr(str)` and `repr(bytes)`.

use thiserror::Error;

/// The reason for which an escaped text cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EscapeError {
    /// A backslash is followed by a character that begins no known escape.
    #[error("byte {at}: unknown escape `\\{}`", char.escape_ascii())]
    Unknown {
        /// The position of the backslash, in bytes from 0.
        at: usize,
        /// The byte after it.
        char: u8,
    },
    /// The text ends within an escape, or a digit of it is not hexadecimal.
    #[error("byte {at}: unfinished escape; expected {n_digits} hexadecimal digits or, after a lone `\\`, a character")]
    Unfinished {
        /// The position of the backslash, in bytes from 0.
        at: usize,
        /// The number of digits of this kind of escape.
        n_digits: usize,
    },
    /// The escaped number is no Unicode scalar value.
    #[error("byte {at}: escape names U+{code_point:04X}, which is no character")]
    NoCharacter {
        /// The position of the backslash, in bytes from 0.
        at: usize,
        /// The number.
        code_point: u32,
    },
}

/// The kind of Python literal that contains the escapes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Literal {
    /// `'…'`: `\xhh`, `\uhhhh` and `\Uhhhhhhhh` name code points, written as UTF-8.
    Str,
    /// `b'…'`: `\xhh` names a byte.
    Bytes,
}

/// The bytes of a token as GGUF's `tokenizer.ggml.tokens` writes them for RWKV: Python's `repr(bytes)` without the
/// `b'` and the closing quote.
///
/// Reads `\t`, `\n`, `\r`, `\\`, `\'`, `\"` and `\xhh` (either case); every other byte stands for itself.
///
/// # Errors
/// An unknown or unfinished escape.
pub fn unescape_gguf_token(text: impl AsRef<[u8]>) -> Result<Vec<u8>, EscapeError> {
    unescape(text.as_ref(), Literal::Bytes)
}

/// The bytes that a literal's inside stands for.
pub(crate) fn unescape(text: &[u8], literal: Literal) -> Result<Vec<u8>, EscapeError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        if byte != b'\\' {
            bytes.push(byte);
            at += 1;
            continue;
        }
        let Some(&char) = text.get(at + 1) else {
            return Err(EscapeError::Unfinished { at, n_digits: 0 });
        };
        let n_digits = match (char, literal) {
            (b'x', _) => 2,
            (b'u', Literal::Str) => 4,
            (b'U', Literal::Str) => 8,
            _ => 0,
        };
        match char {
            b'\\' | b'\'' | b'"' => bytes.push(char),
            b't' => bytes.push(b'\t'),
            b'n' => bytes.push(b'\n'),
            b'r' => bytes.push(b'\r'),
            _ if n_digits > 0 => {
                let digits = text.get(at + 2..at + 2 + n_digits);
                let number = digits.and_then(hex_number).ok_or(EscapeError::Unfinished { at, n_digits })?;
                match literal {
                    Literal::Bytes => bytes.push(number as u8),
                    Literal::Str => {
                        let char = char::from_u32(number).ok_or(EscapeError::NoCharacter { at, code_point: number })?;
                        bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                }
            }
            _ => return Err(EscapeError::Unknown { at, char }),
        }
        at += 2 + n_digits;
    }
    Ok(bytes)
}

/// The number that at most eight hexadecimal digits write.
fn hex_number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, &digit| Some(number << 4 | char::from(digit).to_digit(16)?))
}
