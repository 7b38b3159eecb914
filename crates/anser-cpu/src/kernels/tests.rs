//! Every kernel, with portable vectors and every kind of x86-64 vectors that the processor has, against the plain loops.

use super::dot_f32::DotF32;
use super::dot_i8::DotI8;
use super::few_q8::FewQ8;
use super::gemm_f32::GemmF32;
use super::gemm_i8::GemmI8;
use super::panel::PackF32;
use super::quantized::Quantized;
use crate::arch::{Kernel, Simd, run_all};
use crate::ops;
use crate::tiles::column_tiles;
use anser_format::DType;
use anser_model::cases::{all, nmse};
use anser_model::{Op, Weight};

/// The kernel that computes a product.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    /// A kernel of 8-bit activations, for few tokens or for many. The expected result is the product of the dequantized
    /// activations.
    Int8 { few: bool },
    /// A kernel of f32 activations, for few tokens or for many.
    Float { few: bool },
}

/// Computes x `[T, K]` · weightᵀ by a kernel and by the plain loops.
#[derive(Clone)]
struct Product<'a> {
    weight: &'a Weight,
    x: &'a [f32],
    form: Form,
}

impl Kernel for Product<'_> {
    type Output = (Vec<f32>, Vec<f32>);

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> (Vec<f32>, Vec<f32>) {
        let Product { weight, x, form } = self;
        let (dtype, rows, n_cols) = (weight.dtype(), weight.bytes(), weight.n_cols());
        let n_tokens = x.len() / n_cols;
        let (mut actual, mut expected) = (vec![0.0; n_tokens * weight.n_rows()], vec![0.0; n_tokens * weight.n_rows()]);
        let mut out_rows = column_tiles(&mut actual, weight.n_rows(), weight.n_rows()).swap_remove(0);
        match form {
            Form::Int8 { few } => {
                let mut quantized = Quantized::default();
                quantized.fill(x, n_cols, 16).into_iter().for_each(|piece| simd.call(piece));
                match &mut out_rows[..] {
                    [out] => simd.call(DotI8 { dtype, rows, x: &quantized, out }),
                    out_rows if few && dtype == DType::Q8_0 && out_rows.len() <= S::LANES => {
                        simd.call(FewQ8 { rows, x: &quantized, out_rows });
                    }
                    out_rows => simd.call(GemmI8 { dtype, rows, x: &quantized, out_rows }),
                }
                ops::matmul(weight, &quantized.dequantize(S::TOKENS), &mut expected);
            }
            Form::Float { few } => {
                let out_rows = &mut out_rows[..];
                if few {
                    simd.call(DotF32 { dtype, rows, n_cols, x, out_rows });
                } else {
                    let mut panel = vec![0.0; x.len()];
                    simd.call(PackF32 { x, n_cols, panel: &mut panel });
                    simd.call(GemmF32 { dtype, rows, n_cols, x: &panel, out_rows });
                }
                ops::matmul(weight, x, &mut expected);
            }
        }
        (actual, expected)
    }
}

#[test]
fn products_equal_the_plain_loops_with_every_instruction_set() {
    let mut n_products = 0;
    for case in all() {
        let [Op::MatMul { weight, .. }] = &case.plan.nodes.iter().map(|n| &n.op).collect::<Vec<_>>()[..] else {
            continue;
        };
        let weight = case.plan.weight(*weight);
        let mut forms = vec![Form::Float { few: false }, Form::Float { few: true }];
        if weight.dtype().is_quantized() {
            forms.extend([Form::Int8 { few: false }, Form::Int8 { few: true }]);
        }
        for form in forms {
            for (i, (actual, expected)) in
                run_all(Product { weight, x: &case.inputs[0].1, form }).into_iter().enumerate()
            {
                let error = nmse(&actual, &expected);
                assert!(error <= case.bound, "{}, {form:?}, vectors {i}: nmse {error:e}", case.name);
                n_products += 1;
            }
        }
    }
    assert!(n_products > 100);
}

#[test]
fn any_number_of_tokens_equals_the_plain_loops() {
    let mut n_types = 0;
    let mut seen = vec![];
    for case in all() {
        let [Op::MatMul { weight, .. }] = &case.plan.nodes.iter().map(|n| &n.op).collect::<Vec<_>>()[..] else {
            continue;
        };
        let weight = case.plan.weight(*weight);
        // Each quantized type and shape is tested once.
        let shape = (weight.dtype(), weight.n_rows(), weight.n_cols());
        if !weight.dtype().is_quantized() || seen.contains(&shape) {
            continue;
        }
        seen.push(shape);
        n_types += 1;
        for n_tokens in (1..=17).chain([23, 34]) {
            let x = |i: usize| ((i * 37 % 101) as f32 - 50.0) * 0.02 * (1 + i / weight.n_cols()) as f32;
            let x: Vec<f32> = (0..n_tokens * weight.n_cols()).map(x).collect();
            for few in [false, true] {
                for (i, (actual, expected)) in
                    run_all(Product { weight, x: &x, form: Form::Int8 { few } }).into_iter().enumerate()
                {
                    let error = nmse(&actual, &expected);
                    assert!(
                        error <= case.bound,
                        "{shape:?}, {n_tokens} tokens, few {few}, vectors {i}: nmse {error:e}"
                    );
                }
            }
        }
    }
    assert!(n_types > 10);
}

#[test]
fn a_token_alone_equals_it_among_others() {
    for case in all().iter().filter(|c| c.tokens.len() > 1) {
        let [Op::MatMul { weight, .. }] = &case.plan.nodes.iter().map(|n| &n.op).collect::<Vec<_>>()[..] else {
            continue;
        };
        let weight = case.plan.weight(*weight);
        let form = if weight.dtype().is_quantized() { Form::Int8 { few: true } } else { Form::Float { few: true } };
        let x = &case.inputs[0].1;
        for (together, _) in run_all(Product { weight, x, form }) {
            for (x, together) in x.chunks(weight.n_cols()).zip(together.chunks(weight.n_rows())) {
                let (alone, _) = crate::arch::run(Product { weight, x, form });
                let error = nmse(&alone, together);
                assert!(error <= case.bound, "{}: nmse {error:e}", case.name);
            }
        }
    }
}

#[test]
fn largest_quants_do_not_overflow_or_saturate() {
    // 127 · 255 in every place, of both signs: the most that a 16-bit pair of products could be asked to hold.
    #[derive(Clone)]
    struct Extremes(u8, i8);
    impl Kernel for Extremes {
        type Output = bool;
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) -> bool {
            let w = simd.load_bytes(&[self.0; 64]);
            let (start, a) = (simd.splat_i32(7), simd.splat_bytes([self.1 as u8; 4]));
            let is = |dot: S::I32, product: f32| simd.sum(simd.to_f32(dot)) == S::LANES as f32 * (7.0 + 4.0 * product);
            let (unsigned, signed) = (f32::from(self.0), f32::from(self.0 as i8));
            let a_of = f32::from(self.1);
            is(simd.dot(start, w, a), unsigned * a_of)
                && is(simd.dot_signed(start, w, a), signed * a_of)
                && (self.0 > 31 || is(simd.dot_small(start, [w; 4], [a; 4]), 4.0 * unsigned * a_of))
                && (signed.abs() > 32.0 || is(simd.dot_small_signed(start, [w; 4], [a; 4]), 4.0 * signed * a_of))
        }
    }
    for w in [0, 1, 31, 32, 127, 128, 129, 224, 254, 255] {
        for a in [-127, -1, 0, 1, 126, 127] {
            assert!(run_all(Extremes(w, a)).iter().all(|&equal| equal), "{w} · {a}");
        }
    }
}
