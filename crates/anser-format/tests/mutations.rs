//! Random damage to good files: an error or a usable file, never a panic, never more memory than the file justifies.

mod common;

use std::cell::Cell;

use anser_format::ModelFile;
use common::{fixture, walk};
use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// One kind of damage; positions are taken modulo the length.
#[derive(Clone, Debug)]
enum Damage {
    FlipBit { at: usize, bit: u8 },
    Byte { at: usize, value: u8 },
    U32 { at: usize, value: u32 },
    U64 { at: usize, value: u64 },
    CopyWithin { from: usize, to: usize, n_bytes: usize },
    Insert { at: usize, bytes: Vec<u8> },
    Remove { at: usize, n_bytes: usize },
    Truncate { at: usize },
}

impl Damage {
    /// Applies the damage within the first `n_header` bytes, where everything but numbers of tensors is.
    fn apply(&self, file: &mut Vec<u8>, n_header: usize) {
        fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
            if let Some(target) = file.get_mut(at..at + bytes.len()) {
                target.copy_from_slice(bytes);
            }
        }
        let n = n_header.min(file.len()).max(1);
        match self {
            Damage::FlipBit { at, bit } => {
                if let Some(byte) = file.get_mut(at % n) {
                    *byte ^= 1 << bit;
                }
            }
            Damage::Byte { at, value } => put(file, at % n, &[*value]),
            Damage::U32 { at, value } => put(file, at % n, &value.to_le_bytes()),
            Damage::U64 { at, value } => put(file, at % n, &value.to_le_bytes()),
            Damage::CopyWithin { from, to, n_bytes } => {
                let source = file.iter().skip(from % n).take(*n_bytes).copied().collect::<Vec<_>>();
                put(file, to % n, &source);
            }
            Damage::Insert { at, bytes } => {
                let at = at % n % (file.len() + 1);
                file.splice(at..at, bytes.iter().copied());
            }
            Damage::Remove { at, n_bytes } => {
                let start = at % n % (file.len() + 1);
                let end = (start + n_bytes).min(file.len());
                file.drain(start..end);
            }
            Damage::Truncate { at } => file.truncate(at % (file.len() + 1)),
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<usize>;
    let number = || {
        prop_oneof![
            0u64..=64,
            Just(u64::MAX),
            Just(1 << 62),
            Just(1 << 63),
            Just(u64::from(u32::MAX)),
            any::<u64>(),
            (0u32..64).prop_map(|bit| 1u64 << bit),
        ]
    };
    prop_oneof![
        (at(), 0u8..8).prop_map(|(at, bit)| Damage::FlipBit { at, bit }),
        (at(), any::<u8>()).prop_map(|(at, value)| Damage::Byte { at, value }),
        (at(), prop_oneof![0u32..40, any::<u32>()]).prop_map(|(at, value)| Damage::U32 { at, value }),
        (at(), number()).prop_map(|(at, value)| Damage::U64 { at, value }),
        (at(), at(), 1usize..100).prop_map(|(from, to, n_bytes)| Damage::CopyWithin { from, to, n_bytes }),
        (at(), prop::collection::vec(any::<u8>(), 1..40)).prop_map(|(at, bytes)| Damage::Insert { at, bytes }),
        (at(), 1usize..40).prop_map(|(at, n_bytes)| Damage::Remove { at, n_bytes }),
        at().prop_map(|at| Damage::Truncate { at }),
    ]
}

#[test]
fn damaged_files_open_or_fail_cleanly() {
    let bases = [
        ("tiny-v7mini-f16.gguf", 10_240),
        ("tiny-v7mini.st", 6_000),
        ("tiny-v7c256-q4_0.gguf", 10_240),
        ("tiny-v7mini.pth", 6_900),
    ];
    for (name, n_header) in bases {
        let good = std::fs::read(fixture("tiny").join(name)).unwrap();
        let (n_opened, n_refused) = (Cell::new(0), Cell::new(0));
        let mut runner = TestRunner::new(Config { cases: 4000, failure_persistence: None, ..Config::default() });
        let outcome = runner.run(&prop::collection::vec(damage(), 1..4), |damages| {
            let mut bytes = good.clone();
            for damage in &damages {
                damage.apply(&mut bytes, n_header);
            }
            let n_bytes = bytes.len();
            ALLOCATOR.reset_peak_usage();
            let before = ALLOCATOR.current_usage();
            let opened = ModelFile::from_bytes(name, bytes);
            let n_allocated = ALLOCATOR.peak_usage() - before;
            prop_assert!(n_allocated <= 8 * n_bytes + (64 << 10), "{n_allocated} bytes for a file of {n_bytes}");
            match opened {
                Ok(file) => {
                    walk(&file);
                    n_opened.set(n_opened.get() + 1);
                }
                Err(error) => {
                    prop_assert!(error.to_string().starts_with(name));
                    n_refused.set(n_refused.get() + 1);
                }
            }
            Ok::<(), TestCaseError>(())
        });
        outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
        let (n_opened, n_refused) = (n_opened.get(), n_refused.get());
        assert!(n_opened > 50 && n_refused > 50, "{name}: {n_opened} opened, {n_refused} refused: damage is too tame");
    }
}
