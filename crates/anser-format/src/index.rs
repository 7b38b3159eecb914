//! Look-up by name, in one allocation beside the named entries.

/// Positions of entries sorted by name.
pub(crate) struct NameIndex(Vec<u32>);

impl NameIndex {
    /// Indexes `entries` by `name`.
    ///
    /// # Errors
    /// The positions, in order, of two entries that have the same name.
    pub(crate) fn new<T>(entries: &[T], name: impl Fn(&T) -> &str) -> Result<NameIndex, [usize; 2]> {
        // A file of 2^32 entries would need more bytes of header than any machine maps; the cast cannot truncate.
        let mut order: Vec<u32> = (0..entries.len() as u32).collect();
        order.sort_unstable_by_key(|&at| (name(&entries[at as usize]), at));
        match order.windows(2).find(|pair| name(&entries[pair[0] as usize]) == name(&entries[pair[1] as usize])) {
            Some(pair) => Err([pair[0] as usize, pair[1] as usize]),
            None => Ok(NameIndex(order)),
        }
    }

    /// Position of the entry called `wanted`.
    pub(crate) fn find<T>(&self, entries: &[T], name: impl Fn(&T) -> &str, wanted: &str) -> Option<usize> {
        let found = self.0.binary_search_by_key(&wanted, |&at| name(&entries[at as usize])).ok()?;
        Some(self.0[found] as usize)
    }
}
