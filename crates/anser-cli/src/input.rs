//! Reads the inputs of commands: arguments as bytes, standard input, files, lists of token ids.

use crate::report::Failure;
use anser::Model;
use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;

/// The argument that means standard input where a text or file is expected.
const STDIN: &str = "-";

/// Token ids given as one argument: `1,2,3`, `1 2 3` or `[1, 2, 3]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenIds(pub(crate) Vec<u32>);

impl std::str::FromStr for TokenIds {
    type Err = String;

    fn from_str(text: &str) -> Result<TokenIds, String> {
        let text = text.trim();
        let list = match text.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or("the list of ids has no closing bracket")?,
            None => text,
        };
        if list.trim().is_empty() {
            return Ok(TokenIds(vec![]));
        }
        let mut ids = vec![];
        for between_commas in list.split(',') {
            if between_commas.trim().is_empty() {
                return Err(match ids.len() {
                    0 => "expected a token id at the beginning of the list, found a comma".into(),
                    n => format!("expected another token id after the first {n}, found a comma without one"),
                });
            }
            for id in between_commas.split_whitespace() {
                let parsed = id.parse();
                ids.push(parsed.map_err(|_| format!("{id:?} is not a token id; ids are whole numbers from 0"))?);
            }
        }
        Ok(TokenIds(ids))
    }
}

/// The bytes of a text argument; `-` reads standard input.
pub(crate) fn text(argument: &OsStr) -> Result<Vec<u8>, Failure> {
    if argument == STDIN { stdin() } else { argument_bytes(argument) }
}

/// The bytes of the file at `path`; `-` reads standard input.
pub(crate) fn file(path: &Path) -> Result<Vec<u8>, Failure> {
    if path.as_os_str() == STDIN {
        return stdin();
    }
    std::fs::read(path).map_err(|e| Failure::about(path.display(), format!("cannot read: {e}")))
}

/// Standard input, if `path` is `-`.
pub(crate) fn stdin_named_by(path: &Path) -> Option<std::io::StdinLock<'static>> {
    (path.as_os_str() == STDIN).then(|| std::io::stdin().lock())
}

fn stdin() -> Result<Vec<u8>, Failure> {
    let mut bytes = vec![];
    let read = std::io::stdin().lock().read_to_end(&mut bytes);
    read.map_err(|e| Failure::about("standard input", format!("cannot read: {e}")))?;
    Ok(bytes)
}

/// The bytes of an argument. On Unix they need not be UTF-8.
#[cfg(unix)]
fn argument_bytes(argument: &OsStr) -> Result<Vec<u8>, Failure> {
    use std::os::unix::ffi::OsStrExt;
    Ok(argument.as_bytes().to_vec())
}

#[cfg(not(unix))]
fn argument_bytes(argument: &OsStr) -> Result<Vec<u8>, Failure> {
    let text = argument.to_str().ok_or_else(|| {
        let argument = argument.display();
        Failure::Usage(format!("{argument:?} is not valid Unicode; give such bytes through standard input (-)"))
    })?;
    Ok(text.as_bytes().to_vec())
}

/// `tokens`, or the token that begins a document if there are none.
pub(crate) fn or_document_start(model: &Model, tokens: Vec<u32>) -> Vec<u32> {
    if tokens.is_empty() { vec![model.document_start()] } else { tokens }
}

#[cfg(test)]
mod tests {
    use super::TokenIds;

    #[test]
    fn token_ids_are_read_with_commas_spaces_or_as_json() {
        for text in ["1,2,30", "1 2 30", "[1, 2, 30]", " [1,2,30]\n", "1, 2,\n30"] {
            assert_eq!(text.parse(), Ok(TokenIds(vec![1, 2, 30])), "{text:?}");
        }
        for text in ["", "[]", " [ ] "] {
            assert_eq!(text.parse(), Ok(TokenIds(vec![])), "{text:?}");
        }
        for text in ["1,x", "-1", "4294967296", "[1,2", "1.5", "0x10", "1,,2", "1,2,", ",1", "1, ,2", ",", "[1,]"] {
            assert!(text.parse::<TokenIds>().is_err(), "{text:?}");
        }
    }
}
