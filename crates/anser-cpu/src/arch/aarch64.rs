//! NEON: the portable vectors, compiled with the instructions dotprod, i8mm and fp16.
#![allow(unsafe_code)]

use super::Kernel;
use super::portable::{Portable, Proof};

/// Proof that the processor has the features of [`Neon::detect`].
#[derive(Clone, Copy)]
pub(super) struct Neon(());

impl Neon {
    /// The proof, if the processor has the features.
    pub(super) fn detect() -> Option<Neon> {
        let has = std::arch::is_aarch64_feature_detected!("dotprod")
            && std::arch::is_aarch64_feature_detected!("i8mm")
            && std::arch::is_aarch64_feature_detected!("fp16");
        has.then_some(Neon(()))
    }
}

impl Proof for Neon {
    #[inline]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        #[inline(never)]
        #[target_feature(enable = "neon,dotprod,i8mm,fp16")]
        fn with_features<K: Kernel>(neon: Neon, kernel: K) -> K::Output {
            kernel.run(Portable(neon))
        }
        // SAFETY: `self` proves that the processor has the features.
        unsafe { with_features(self, kernel) }
    }
}
