//! The encoder's loop over windows of text: find the cuts, then look up the pieces between them.

use crate::index::{Index, KEY_LEN};
use crate::vocabulary::MAX_TOKEN_LEN;

/// Bytes of text that one round of the loop encodes: enough to hide the fixed costs of a round, few enough for the
/// round's data to stay in the L1 cache.
const WINDOW: usize = 512;

/// The bytes of a piece without a cut that one call encodes before it returns, so that the caller can report progress
/// or cancel.
const LONG_PIECE_STEP: usize = 1 << 20;

/// A window of text, with room to load a whole key at its last byte. A key's bytes after the end of the text are masked
/// away.
type Window = [u8; WINDOW + KEY_LEN];

/// Appends the ids of at least the first `n_bytes` bytes of `text`, and returns the rest of the text. Encoding the rest
/// with further calls gives the same ids as one call for the whole text.
pub(crate) fn encode<'a>(index: Index<'_>, text: &'a [u8], n_bytes: usize, ids: &mut Vec<u32>) -> &'a [u8] {
    let mut window: Window = [0; WINDOW + KEY_LEN];
    let mut ends = [0u16; WINDOW];
    let mut rest = text;
    while !rest.is_empty() && text.len() - rest.len() < n_bytes {
        let n_bytes = rest.len().min(WINDOW);
        window[..n_bytes].copy_from_slice(&rest[..n_bytes]);

        // Every place is written and only cuts are kept: no branch depends on the text.
        let mut n_pieces = 0;
        for i in 1..n_bytes {
            ends[n_pieces % WINDOW] = i as u16;
            n_pieces += usize::from(index.cut(window[i - 1], window[i]));
        }
        if n_bytes == rest.len() {
            ends[n_pieces % WINDOW] = n_bytes as u16;
            n_pieces += 1;
        }
        let Some((&last_end, _)) = ends[..n_pieces.min(WINDOW)].split_last() else {
            rest = encode_long_piece(index, rest, ids);
            continue;
        };

        let mut start = 0;
        for &end in &ends[..n_pieces.min(WINDOW)] {
            let end = usize::from(end);
            match find(index, &window, start, end) {
                Some(id) => ids.push(id),
                None => encode_piece(index, &window, start, end, ids),
            }
            start = end;
        }
        rest = &rest[usize::from(last_end)..];
    }
    rest
}

/// The id of the piece, if it is one token.
#[inline(always)]
fn find(index: Index<'_>, window: &Window, start: usize, end: usize) -> Option<u32> {
    let bytes = window[start % WINDOW..].first_chunk()?;
    index.find(bytes, end - start)
}

/// Appends the ids of a piece that is several tokens. The rest of a piece after its first token is often one token itself.
#[inline(never)]
fn encode_piece(index: Index<'_>, window: &Window, mut start: usize, end: usize, ids: &mut Vec<u32>) {
    while let [first, others @ ..] = &window[start..end] {
        let (id, len) = index.longest(*first, others);
        ids.push(id);
        start += len;
        if start < end
            && let Some(id) = find(index, window, start, end)
        {
            ids.push(id);
            return;
        }
    }
}

/// Appends the ids of a piece that is longer than a window, or of its first [`LONG_PIECE_STEP`] bytes, and returns the text
/// after them.
#[cold]
fn encode_long_piece<'a>(index: Index<'_>, text: &'a [u8], ids: &mut Vec<u32>) -> &'a [u8] {
    // A token that starts within the step ends within these bytes.
    let seen = &text[..text.len().min(LONG_PIECE_STEP + MAX_TOKEN_LEN)];
    let end = seen.windows(2).position(|pair| index.cut(pair[0], pair[1]) == 1).map_or(seen.len(), |i| i + 1);
    let mut start = 0;
    while start < LONG_PIECE_STEP
        && let [first, others @ ..] = &seen[start..end]
    {
        let (id, len) = index.longest(*first, others);
        ids.push(id);
        start += len;
    }
    &text[start..]
}
