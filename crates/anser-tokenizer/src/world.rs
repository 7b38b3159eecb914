//! The RWKV World vocabulary and its index, made by the build script and used in place.

use crate::index::Index;
use crate::vocabulary::Vocabulary;

/// A table that the build script wrote.
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
    keys: table!("keys").as_chunks().0,
    ids: table!("ids").as_chunks().0,
    trie: table!("trie").as_chunks().0,
};
