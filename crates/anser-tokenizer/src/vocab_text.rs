//! Reads the published vocabulary file: one `ID LITERAL LENGTH` per line, the literal as Python's `repr` writes it.

use crate::escape::{Literal, unescape};
use crate::vocabulary::{LineError, MAX_VOCAB_SIZE, VocabularyError};

/// The tokens by id. Ids that no line names have no text; the list ends with the highest id named.
pub(crate) fn parse(text: &str) -> Result<Vec<Option<Vec<u8>>>, VocabularyError> {
    let mut tokens = Vec::new();
    // Editors leave empty lines at the end; between tokens an empty line is a fault.
    let text = text.trim_end_matches(['\r', '\n']);
    for (i, line) in text.lines().enumerate() {
        let (id, token) = parse_line(line).map_err(|problem| VocabularyError::Line { line: i + 1, problem })?;
        if tokens.len() <= id {
            tokens.resize(id + 1, None);
        }
        if tokens[id].replace(token).is_some() {
            return Err(VocabularyError::Line { line: i + 1, problem: LineError::RepeatedId { id } });
        }
    }
    Ok(tokens)
}

/// The id and the bytes of one line's token.
fn parse_line(line: &str) -> Result<(usize, Vec<u8>), LineError> {
    // The literal may hold spaces itself: it lies between the first and the last.
    let (id, rest) = line.split_once(' ').ok_or(LineError::Shape)?;
    let (literal, len) = rest.rsplit_once(' ').ok_or(LineError::Shape)?;
    let id = match id.parse() {
        Ok(number) if number < MAX_VOCAB_SIZE => number,
        _ => return Err(LineError::Id { found: id.to_owned() }),
    };
    let (kind, quoted) = match literal.strip_prefix('b') {
        Some(quoted) => (Literal::Bytes, quoted),
        None => (Literal::Str, literal),
    };
    let inside = ['\'', '"']
        .iter()
        .find_map(|&quote| quoted.strip_prefix(quote)?.strip_suffix(quote))
        .ok_or(LineError::Literal)?;
    let token = unescape(inside.as_bytes(), kind)?;
    if len.parse() != Ok(token.len()) {
        return Err(LineError::Length { n_bytes: token.len(), found: len.to_owned() });
    }
    Ok((id, token))
}
