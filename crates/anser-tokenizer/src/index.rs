//! The look-up tables that encoding reads: cuts, perfect hash, trie. `index_build` makes them; the crate's
//! documentation says how they work together.

/// The bytes of text from which the key of a piece is loaded.
pub(crate) const KEY_LEN: usize = 16;
/// The length, in bytes, of the longest piece that has a key: the sixteenth byte of a key holds the piece's length.
pub(crate) const MAX_KEYED_LEN: usize = KEY_LEN - 1;
/// The bytes of a slot of the perfect hash: a key and an id.
pub(crate) const SLOT_LEN: usize = KEY_LEN + 4;

/// The tables of one vocabulary, borrowed. All numbers are little-endian, so that the embedded ones are used in place.
#[derive(Clone, Copy)]
pub(crate) struct Index<'a> {
    /// 1 where no token holds the byte pair: every parse has a token boundary between the two. Indexed by
    /// first + 256 · second.
    pub(crate) cuts: &'a [u8; 1 << 16],
    /// Perfect hash, first level: for each bucket a pilot, u16, under which all keys of the bucket hash to free slots. The
    /// number of buckets is a power of two.
    pub(crate) pilots: &'a [[u8; 2]],
    /// Perfect hash, second level: in each slot a key and the token's id, u32. The key is 0 where the slot is free; no
    /// piece has that key. Side by side they are one access to memory.
    pub(crate) slots: &'a [[u8; SLOT_LEN]],
    /// The trie as a double array of [`Node`]s. The root's children begin at [`ROOT_BASE`]; slots below it stay free.
    pub(crate) trie: &'a [[u8; 8]],
}

/// The tables that an [`Index`] borrows if it is not the embedded one.
pub(crate) struct IndexBuf {
    pub(crate) cuts: Box<[u8; 1 << 16]>,
    pub(crate) pilots: Vec<[u8; 2]>,
    pub(crate) slots: Vec<[u8; SLOT_LEN]>,
    pub(crate) trie: Vec<[u8; 8]>,
}

impl IndexBuf {
    pub(crate) fn view(&self) -> Index<'_> {
        Index { cuts: &self.cuts, pilots: &self.pilots, slots: &self.slots, trie: &self.trie }
    }
}

impl Index<'_> {
    /// 1 when every parse has a token boundary between these neighbours, else 0.
    #[inline(always)]
    pub(crate) fn cut(self, first: u8, second: u8) -> u8 {
        self.cuts[usize::from(u16::from_le_bytes([first, second]))]
    }

    /// The id of the token that is exactly the first `len` bytes, if the perfect hash holds that token.
    #[inline(always)]
    pub(crate) fn find(self, bytes: &[u8; KEY_LEN], len: usize) -> Option<u32> {
        let key = key(bytes, len);
        let hash = hash(key);
        let pilot = u16::from_le_bytes(self.pilots[bucket(hash, self.pilots.len())]);
        let (slot_key, id) = unpack_slot(&self.slots[slot(hash, pilot, self.slots.len())]);
        (slot_key == key).then_some(id)
    }

    /// The longest token that `bytes` begin with: its id and its length.
    #[inline(always)]
    pub(crate) fn longest(self, first: u8, others: &[u8]) -> (u32, usize) {
        let mut node = Node::from_le_bytes(self.trie[ROOT_BASE + usize::from(first)]);
        let mut depth = 1;
        for &byte in others {
            let next = Node::from_le_bytes(self.trie[node.child_slot(byte)]);
            if !next.is_entered_by(byte) {
                break;
            }
            node = next;
            depth += 1;
        }
        (node.id(), depth - node.excess())
    }
}

/// The first slots of the trie stay free: a leaf has base 0, and so finds no child, without a test of its own.
pub(crate) const ROOT_BASE: usize = 256;

/// A trie node, packed into 64 bits: bits 0–8 the byte that enters it + 256 (0 where a slot is free), 9–28 the id of
/// the longest token on the way to it, 32–39 how many bytes it is deeper than that token, 40–63 its base.
#[derive(Clone, Copy)]
pub(crate) struct Node(u64);

impl Node {
    /// The bound of all bases: each is less than this.
    pub(crate) const BASE_END: usize = 1 << 24;

    pub(crate) fn new(byte: u8, id: u32, excess: usize, base: usize) -> Self {
        Self(0x100 | u64::from(byte) | u64::from(id) << 9 | (excess as u64) << 32 | (base as u64) << 40)
    }

    #[inline(always)]
    pub(crate) fn from_le_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_le_bytes(bytes))
    }

    pub(crate) fn to_le_bytes(self) -> [u8; 8] {
        self.0.to_le_bytes()
    }

    /// The slot at which the child that `byte` leads to would be. Bases differ, so a slot entered by `byte` is this
    /// node's child.
    #[inline(always)]
    fn child_slot(self, byte: u8) -> usize {
        (self.0 >> 40) as usize ^ usize::from(byte)
    }

    #[inline(always)]
    fn is_entered_by(self, byte: u8) -> bool {
        self.0 & 0x1ff == 0x100 | u64::from(byte)
    }

    #[inline(always)]
    fn id(self) -> u32 {
        (self.0 >> 9) as u32 & 0xf_ffff
    }

    #[inline(always)]
    fn excess(self) -> usize {
        (self.0 >> 32) as usize & 0xff
    }
}

/// By the length of a piece, the mask that keeps as many bytes of a key; 0 for lengths beyond [`MAX_KEYED_LEN`].
const KEY_MASKS: [u128; KEY_LEN + 1] = {
    let mut masks = [0; KEY_LEN + 1];
    let mut len = 1;
    while len <= MAX_KEYED_LEN {
        masks[len] = u128::MAX >> (8 * (KEY_LEN - len));
        len += 1;
    }
    masks
};

/// The key of a piece: its first `len` bytes, and `len` in the top byte, so that different pieces have different keys.
/// A piece that is too long gets a key that no token has.
#[inline(always)]
pub(crate) fn key(bytes: &[u8; KEY_LEN], len: usize) -> u128 {
    let len = len.min(KEY_LEN);
    u128::from_le_bytes(*bytes) & KEY_MASKS[len] | (len as u128) << 120
}

/// Packs a key and an id into a slot of the perfect hash.
pub(crate) fn pack_slot(key: u128, id: u32) -> [u8; SLOT_LEN] {
    let mut slot = [0; SLOT_LEN];
    slot[..KEY_LEN].copy_from_slice(&key.to_le_bytes());
    slot[KEY_LEN..].copy_from_slice(&id.to_le_bytes());
    slot
}

#[inline(always)]
fn unpack_slot(slot: &[u8; SLOT_LEN]) -> (u128, u32) {
    let mut key = [0; KEY_LEN];
    key.copy_from_slice(&slot[..KEY_LEN]);
    let mut id = [0; SLOT_LEN - KEY_LEN];
    id.copy_from_slice(&slot[KEY_LEN..]);
    (u128::from_le_bytes(key), u32::from_le_bytes(id))
}

/// Odd numbers without pattern: the first digits of the golden ratio's and of pi's fractions, in base 2^64.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
const PI: u64 = 0x243f_6a88_85a3_08d3;

/// The hash of a key. A multiplication carries upwards only, so the rotation lets a piece's length change all bits, and
/// the shift brings the uppermost bits, which depend on all bytes, down to those that [`bucket`] takes.
#[inline(always)]
pub(crate) fn hash(key: u128) -> u64 {
    let (low, high) = (key as u64, (key >> 64) as u64);
    let mixed = low.wrapping_mul(PI) ^ high.rotate_left(8).wrapping_mul(GOLDEN);
    mixed ^ (mixed >> 47)
}

/// The bucket of a hash, below `n_buckets`, a power of two.
#[inline(always)]
pub(crate) fn bucket(hash: u64, n_buckets: usize) -> usize {
    hash as usize & (n_buckets - 1)
}

/// The slot of a hash under its bucket's pilot, below `n_slots`. The pilot changes the multiplier, so that it also
/// moves keys of one bucket against each other.
#[inline(always)]
pub(crate) fn slot(hash: u64, pilot: u16, n_slots: usize) -> usize {
    let product = hash.wrapping_mul(GOLDEN.wrapping_add(u64::from(pilot) << 1));
    (((product >> 32) * n_slots as u64) >> 32) as usize
}
