//! Identifiers of answers, and fresh seeds.

/// The letters of identifiers.
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// The random letters of an identifier, of 6 bits each.
const N_LETTERS: usize = 24;

/// `prefix` and 24 random letters.
pub(crate) fn fresh(prefix: &str) -> String {
    let mut bytes = [0; N_LETTERS];
    fill(&mut bytes);
    let letters = bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 64)]));
    prefix.chars().chain(letters).collect()
}

/// A seed that fits into a number of JSON, which programs may read as floats.
pub(crate) fn seed() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_le_bytes(bytes) >> 11
}

/// Random bytes of the system; of the standard library's hash keys where the system has none.
fn fill(bytes: &mut [u8]) {
    use std::hash::{BuildHasher, RandomState};

    if getrandom::fill(bytes).is_err() {
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = RandomState::new().hash_one(at) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{fresh, seed};

    #[test]
    fn no_two_are_equal() {
        let ids: std::collections::HashSet<String> = (0..1000).map(|_| fresh("resp_")).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 29 && id.starts_with("resp_")));
        assert!((0..100).all(|_| seed() < 1 << 53) && seed() != seed());
    }
}
