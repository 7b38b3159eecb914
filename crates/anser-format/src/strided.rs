//! Tensors whose elements do not lie in row-major order: views with strides, and transposed matrices.

use std::ops::Range;
use std::sync::OnceLock;

/// Rows of a transposed matrix that are gathered together: 32 elements of two bytes are a cache line of the file.
const GROUP_N_ROWS: usize = 32;

/// How the elements of a tensor lie in the bytes of a file, if not one after another.
#[derive(Debug)]
pub(crate) struct Strided {
    /// Slowest dimension first.
    pub(crate) shape: Box<[usize]>,
    /// Elements from one index of a dimension to the next.
    strides: Box<[usize]>,
    element_n_bytes: usize,
    /// The elements in row-major order, made when somebody first asks for all of them.
    copy: OnceLock<Box<[u8]>>,
}

impl Strided {
    /// `shape` and `strides` have the same length, and the caller has checked that all elements lie in the bytes that it
    /// will pass to [`Strided::bytes`].
    pub(crate) fn new(shape: Box<[usize]>, strides: Box<[usize]>, element_n_bytes: usize) -> Strided {
        debug_assert_eq!(shape.len(), strides.len());
        Strided { shape, strides, element_n_bytes, copy: OnceLock::new() }
    }

    /// The same elements with the last two dimensions exchanged; `None` for less than two dimensions.
    pub(crate) fn transposed(&self) -> Option<Strided> {
        let (mut shape, mut strides) = (self.shape.clone(), self.strides.clone());
        let n = shape.len();
        if n < 2 {
            return None;
        }
        shape.swap(n - 2, n - 1);
        strides.swap(n - 2, n - 1);
        Some(Strided::new(shape, strides, self.element_n_bytes))
    }

    /// A matrix `[rows, n·cols]` as the stack `[n, rows, cols]` of the matrices that lie side by side in it; `None` for other shapes.
    pub(crate) fn stacked_columns(&self, n: usize) -> Option<Strided> {
        let (&[n_rows, n_cols], &[row, col]) = (&self.shape[..], &self.strides[..]) else { return None };
        if n == 0 || n_cols % n != 0 {
            return None;
        }
        let (shape, strides) = ([n, n_rows, n_cols / n], [n_cols / n * col, row, col]);
        Some(Strided::new(shape.into(), strides.into(), self.element_n_bytes))
    }

    /// Bytes of the elements in row-major order.
    pub(crate) fn n_bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.element_n_bytes
    }

    /// Bytes from the first element to the end of the last one.
    pub(crate) fn span_n_bytes(&self) -> usize {
        if self.shape.contains(&0) {
            return 0;
        }
        let last: usize = self.shape.iter().zip(&self.strides).map(|(&n, &stride)| (n - 1) * stride).sum();
        (last + 1) * self.element_n_bytes
    }

    /// Whether the elements lie in row-major order without a gap.
    pub(crate) fn is_contiguous(&self) -> bool {
        is_contiguous(&self.shape, &self.strides)
    }

    /// Whether the elements of a matrix lie column by column without a gap, and not row by row.
    pub(crate) fn lies_by_columns(&self) -> bool {
        match (&self.shape[..], &self.strides[..]) {
            (&[n_rows, n_cols], &[row, col]) => !self.is_contiguous() && is_contiguous(&[n_cols, n_rows], &[col, row]),
            _ => false,
        }
    }

    /// The elements in row-major order: where they lie if they lie so, else a copy that is made once and kept.
    /// `span` has the bytes from the first element to the end of the last one.
    pub(crate) fn bytes<'a>(&'a self, span: &'a [u8]) -> &'a [u8] {
        if self.is_contiguous() {
            return span;
        }
        self.copy.get_or_init(|| {
            let mut out = vec![0; self.n_bytes()];
            self.gather(span, 0, &mut out);
            out.into()
        })
    }

    /// The copy of all elements, if it has been made.
    pub(crate) fn copied(&self) -> Option<&[u8]> {
        self.copy.get().map(|copy| &copy[..])
    }

    /// The bytes in `range` of the row-major order, without keeping a copy of the others.
    pub(crate) fn fetch<'a>(&'a self, span: &'a [u8], range: Range<usize>, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        if self.is_contiguous() {
            return &span[range];
        }
        match self.copied() {
            Some(copy) => &copy[range],
            None => self.gather_bytes(span, range, scratch),
        }
    }

    /// The bytes in `range` of the row-major order, in `scratch`.
    pub(crate) fn gather_bytes<'a>(&self, span: &[u8], range: Range<usize>, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        let size = self.element_n_bytes;
        let (first, end) = (range.start / size, range.end.div_ceil(size));
        scratch.resize(((end - first) * size).max(scratch.len()), 0);
        self.gather(span, first, &mut scratch[..(end - first) * size]);
        &scratch[range.start - first * size..range.end - first * size]
    }

    /// Writes the elements from number `first` on, counted in row-major order.
    fn gather(&self, span: &[u8], first: usize, out: &mut [u8]) {
        match self.element_n_bytes {
            1 => self.gather_elements::<1>(span, first, out),
            2 => self.gather_elements::<2>(span, first, out),
            4 => self.gather_elements::<4>(span, first, out),
            _ => self.gather_elements::<8>(span, first, out),
        }
    }

    fn gather_elements<const SIZE: usize>(&self, span: &[u8], first: usize, out: &mut [u8]) {
        let (Some((&n_cols, outer)), Some((&stride, outer_strides))) =
            (self.shape.split_last(), self.strides.split_last())
        else {
            out.copy_from_slice(&span[..out.len()]);
            return;
        };
        let span = span.as_chunks::<SIZE>().0;
        let mut out = out.as_chunks_mut::<SIZE>().0;
        let mut at = first;
        while !out.is_empty() {
            let (row, first_col) = (at / n_cols, at % n_cols);
            // The place of the row, from the index of every outer dimension.
            let (mut index, mut start) = (row, 0);
            for (&n, &stride) in outer.iter().zip(outer_strides).rev() {
                start += index % n * stride;
                index /= n;
            }
            // Whole rows of one matrix are gathered together, so that neighbours in the file are read together.
            let n_rows = match (outer.last(), outer_strides.last(), first_col) {
                (Some(n), Some(_), 0) => (n - row % n).min(out.len() / n_cols).clamp(1, GROUP_N_ROWS),
                _ => 1,
            };
            let row_stride = outer_strides.last().copied().unwrap_or(0);
            let n_elements = if n_rows > 1 { n_rows * n_cols } else { (n_cols - first_col).min(out.len()) };
            let (piece, rest) = out.split_at_mut(n_elements);
            if n_rows == 1 {
                for (i, element) in piece.iter_mut().enumerate() {
                    *element = span[start + (first_col + i) * stride];
                }
            } else {
                for col in 0..n_cols {
                    let from = start + col * stride;
                    for i in 0..n_rows {
                        piece[i * n_cols + col] = span[from + i * row_stride];
                    }
                }
            }
            at += n_elements;
            out = rest;
        }
    }
}

/// Elements from one index of every dimension to the next, in row-major order. The caller has checked the product.
pub(crate) fn row_major(shape: &[usize]) -> Box<[usize]> {
    let mut strides: Box<[usize]> = shape.into();
    let mut stride = 1;
    for (out, &n) in strides.iter_mut().zip(shape).rev() {
        *out = stride;
        stride *= n;
    }
    strides
}

/// Whether elements with these strides lie in row-major order without a gap. Strides of dimensions of length 1 do not count.
pub(crate) fn is_contiguous(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1;
    for (&n, &stride) in shape.iter().zip(strides).rev() {
        if n != 1 && stride != expected {
            return false;
        }
        expected *= n;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strided(shape: &[usize], strides: &[usize]) -> Strided {
        Strided::new(shape.into(), strides.into(), 2)
    }

    /// Elements 0, 1, 2, … of two bytes.
    fn numbers(n: u16) -> Vec<u8> {
        (0..n).flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn elements_come_in_row_major_order() {
        let span = numbers(210);
        let transposed = (0..70).flat_map(|row| (0..3).map(move |col| col * 70 + row)).collect();
        let cases: [(&[usize], &[usize], Vec<u16>); 5] = [
            (&[70, 3], &[1, 70], transposed),
            (&[2, 3], &[1, 2], vec![0, 2, 4, 1, 3, 5]),
            (&[2, 2], &[10, 3], vec![0, 3, 10, 13]),
            (&[2, 3, 2], &[12, 1, 5], vec![0, 5, 1, 6, 2, 7, 12, 17, 13, 18, 14, 19]),
            (&[1, 3], &[7, 1], vec![0, 1, 2]),
        ];
        for (shape, strides, expected) in cases {
            let tensor = strided(shape, strides);
            let expected: Vec<u8> = expected.into_iter().flat_map(u16::to_le_bytes).collect();
            let span = &span[..tensor.span_n_bytes()];
            for start in 0..expected.len() {
                for end in start..=expected.len() {
                    assert_eq!(tensor.fetch(span, start..end, &mut vec![]), &expected[start..end]);
                }
            }
            assert!(tensor.copied().is_none());
            assert_eq!(tensor.bytes(span), expected);
            assert_eq!(tensor.copied().is_none(), tensor.is_contiguous());
        }
    }

    #[test]
    fn a_transposed_matrix_that_lies_column_by_column_is_in_place() {
        let tensor = strided(&[2, 3], &[1, 2]);
        assert!(!tensor.is_contiguous() && tensor.transposed().unwrap().is_contiguous());
        assert!(strided(&[5], &[1]).transposed().is_none());
        assert!(tensor.lies_by_columns() && !strided(&[2, 3], &[3, 1]).lies_by_columns());
        assert!(!strided(&[2, 3], &[1, 4]).lies_by_columns() && !strided(&[2, 2, 2], &[1, 2, 4]).lies_by_columns());
        assert_eq!(*row_major(&[5, 3, 2]), [6, 2, 1]);
        assert!(is_contiguous(&[0, 3], &[3, 1]) && strided(&[0, 3], &[3, 1]).span_n_bytes() == 0);
    }
}
