//! Texts in pieces, each of which a model reads from a fresh state.

/// The number of tokens of a piece if only the number of pieces is given.
const USUAL_LEN: usize = 512;

/// A text in pieces of `len` tokens, at most `n` of them; as a whole if neither is given. The last piece may be shorter.
pub(crate) fn pieces(tokens: &[u32], len: Option<usize>, n: Option<usize>) -> Vec<&[u32]> {
    let len = match (len, n) {
        (Some(len), _) => len,
        (None, Some(_)) => USUAL_LEN,
        (None, None) => tokens.len(),
    };
    tokens.chunks(len.max(1)).take(n.unwrap_or(usize::MAX)).collect()
}

#[cfg(test)]
mod tests {
    use super::pieces;

    #[test]
    fn a_text_is_whole_unless_asked_for() {
        let tokens: Vec<u32> = (0..1300).collect();
        let lens = |len, n| pieces(&tokens, len, n).iter().map(|piece| piece.len()).collect::<Vec<usize>>();
        assert_eq!(lens(None, None), [1300]);
        assert_eq!(lens(None, Some(2)), [512, 512]);
        assert_eq!(lens(Some(600), None), [600, 600, 100]);
        assert_eq!(lens(Some(600), Some(1)), [600]);
        assert!(pieces(&[], None, None).is_empty());
    }
}
