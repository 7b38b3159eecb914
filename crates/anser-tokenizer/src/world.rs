//! The RWKV World vocabulary and its index, made by the build script and used in place.

use crate::index::Index;
use crate::vocabulary::Vocabulary;

/// Includes a table that the build script wrote.
macro_rules! table {
    ($name:literal) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/", $name))
    };
}

pub(crate) static VOCABULARY: Vocabulary<'static> = Vocabulary {
    text: table!("text"),
    offsets: table!("offsets").as_chunks().0,
    max_token_len: include!(concat!(env!("OUT_DIR"), "/max_token_len")),
};

pub(crate) static INDEX: Index<'static> = Index {
    cuts: table!("cuts"),
    pilots: table!("pilots").as_chunks().0,
    slots: table!("slots").as_chunks().0,
    trie: table!("trie").as_chunks().0,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{KEY_LEN, MAX_KEYED_LEN};

    /// A token that the perfect hash left out would still be found, but slowly.
    #[test]
    fn perfect_hash_finds_every_keyed_token() {
        for id in 0..VOCABULARY.size() {
            let token = VOCABULARY.token(id).unwrap();
            if (1..=MAX_KEYED_LEN).contains(&token.len()) {
                let mut bytes = [0xaa; KEY_LEN];
                bytes[..token.len()].copy_from_slice(token);
                assert_eq!(INDEX.find(&bytes, token.len()), Some(id as u32));
            }
        }
    }
}
