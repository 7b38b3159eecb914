//! The device's layouts against the values that the file's formats define, for the matrices of the case table.

use super::{DeviceLayout, kept, layout};
use anser_format::DType;
use anser_format::quant::dequantize;
use anser_model::{Op, Weight, cases};

/// Every matrix that a case multiplies, with the type of its numbers.
fn matrices() -> Vec<Weight> {
    let weights = cases::all().into_iter().flat_map(|case| {
        let ids = case.plan.nodes.iter().filter_map(|node| match &node.op {
            Op::MatMul { weight, .. } => Some(*weight),
            _ => None,
        });
        ids.map(|id| case.plan.weight(id).clone()).collect::<Vec<_>>()
    });
    weights.collect()
}

/// A row as the device has it, put back into the file's order.
fn unpack(dtype: DType, row: &[u8], n_cols: usize) -> Vec<u8> {
    let n_blocks = n_cols / dtype.block_len();
    let (body, scale_at) = match dtype {
        DType::Q8_0 => (32, 0),
        DType::Q6_K => (208, 208),
        _ => return row[..dtype.row_n_bytes(n_cols).unwrap()].to_vec(),
    };
    let (bodies, scales) = row.split_at(body * n_blocks);
    let blocks = bodies.chunks_exact(body).zip(scales.chunks_exact(2));
    blocks.flat_map(|(b, s)| [&b[..scale_at], s, &b[scale_at..]].concat()).collect()
}

/// What the codes of `wgsl/weight/codebooks.wgsl` stand for, as the files beside it say.
fn magnitudes(dtype: DType) -> Option<&'static [u8]> {
    match dtype {
        DType::IQ1_S => Some(&[1, 7, 9]),
        DType::IQ2_S => Some(&[8, 25, 43]),
        DType::IQ3_XXS => Some(&[4, 12, 20, 28, 36, 44, 52, 62]),
        DType::IQ3_S => Some(&[1, 3, 5, 7, 9, 11, 13, 15]),
        _ => None,
    }
}

/// The values of a row in that layout.
fn values_of_codes(magnitudes: &[u8], row: &[u8]) -> Vec<f32> {
    let value = |block: &[u8; 144], at: usize| {
        let d = f32::from_le_bytes([block[8], block[9], block[10], block[11]]);
        let step = 2 * (block[at / 32] >> (at / 16 % 2 * 4) & 15) + 1;
        let code = block[16 + at / 32 * 16 + at % 16] >> (at / 16 % 2 * 4) & 15;
        let sign = if code < 8 { 1.0 } else { -1.0 };
        d * f32::from(step) * (sign * f32::from(magnitudes[usize::from(code % 8)]))
    };
    row.as_chunks().0.iter().flat_map(|block| (0..256).map(move |at| value(block, at))).collect()
}

fn repacked(layout: DeviceLayout, matrix: &Weight, rows: std::ops::Range<usize>) -> Vec<u8> {
    let mut bytes = vec![0xaa; rows.len() * layout.row_n_bytes];
    let n = matrix.row_n_bytes();
    layout.repack(matrix, &matrix.bytes()[n * rows.start..n * rows.end], &mut bytes);
    bytes
}

#[test]
fn layouts_keep_the_values() {
    let matrices: Vec<_> = matrices().into_iter().filter(|matrix| matrix.n_rows() >= 3).collect();
    for matrix in &matrices {
        let (dtype, n_cols, layout) = (matrix.dtype(), matrix.n_cols(), layout(matrix));
        assert_eq!(layout.dtype, kept(dtype).on_device.dtype);
        assert_eq!(layout.row_n_bytes % 16, 0);
        let rows = repacked(layout, matrix, 1..3);
        assert!(!layout.is_verbatim() || rows == matrix.bytes()[matrix.row_n_bytes()..][..rows.len()]);
        for (i, row) in rows.chunks_exact(layout.row_n_bytes).enumerate() {
            let (mut actual, mut expected) = (vec![f32::NAN; n_cols], vec![f32::NAN; n_cols]);
            match magnitudes(layout.dtype) {
                Some(magnitudes) => actual = values_of_codes(magnitudes, row),
                None => dequantize(layout.dtype, &unpack(layout.dtype, row, n_cols), &mut actual),
            }
            dequantize(dtype, matrix.row(i + 1), &mut expected);
            match dtype {
                // Rounded to F16, or their scales are.
                DType::Q4_1 | DType::Q5_1 | DType::Q2_K | DType::IQ4_XS => {
                    for (a, e) in actual.iter().zip(&expected) {
                        assert!((a - e).abs() <= e.abs() / 2048.0 + 1e-7, "{dtype}: {e} became {a}");
                    }
                }
                _ => assert_eq!(actual, expected, "{dtype}"),
            }
        }
    }
    assert!(DType::ALL.iter().all(|&dtype| matrices.iter().any(|matrix| matrix.dtype() == dtype)));
}

/// Also of types that become halves on the device.
#[test]
fn panels_have_the_columns_of_16_rows_together() {
    for dtype in [DType::F16, DType::Q4_1] {
        let (matrices, n_cols) = (matrices(), 512);
        let matrix = matrices.iter().find(|m| m.dtype() == dtype && (m.n_rows(), m.n_cols()) == (96, n_cols)).unwrap();
        let by_rows = layout(matrix);
        let layout = by_rows.in_panels([matrix.n_rows(), n_cols]).unwrap();
        assert_eq!((layout.dtype, layout.panel_len, layout.is_verbatim()), (DType::F16, 16, false));
        let (panels, rows) = (repacked(layout, matrix, 16..48), repacked(by_rows, matrix, 16..48));
        for (at, half) in panels.as_chunks::<2>().0.iter().enumerate() {
            let (panel, column, row) = (at / (16 * n_cols), at / 16 % n_cols, at % 16);
            assert_eq!(*half, rows.as_chunks::<2>().0[(16 * panel + row) * n_cols + column], "{dtype} {at}");
        }
    }
}

#[test]
fn floats_are_padded_with_zeros() {
    let mut n_padded = 0;
    for matrix in matrices().iter().filter(|m| !m.dtype().is_quantized() && !m.n_cols().is_multiple_of(16)) {
        let layout = layout(matrix);
        assert!(!layout.is_verbatim());
        for (i, row) in repacked(layout, matrix, 0..2).chunks_exact(layout.row_n_bytes).enumerate() {
            let (data, padding) = row.split_at(matrix.row_n_bytes());
            assert_eq!(data, matrix.row(i));
            assert!(!padding.is_empty() && padding.iter().all(|&byte| byte == 0));
        }
        n_padded += 1;
    }
    assert!(n_padded > 0);
}
