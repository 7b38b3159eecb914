//! Products by cooperative matrices: which kernel, in which shape, and how weights become halves for it.

use super::{MatMul, spec, target_rows};
use crate::compile::dispatch::{Binding, Dispatch, Extent};
use crate::device::features::{Features, Matrices};
use crate::device::kernel::{Access, KernelSpec, wgsl};
use crate::quant::PIECE_LEN;
use anser_format::DType;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Subgroups and tiles of a cooperative-matrix kernel, see `wgsl/gemm/gemm.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct GemmShape {
    /// Threads that share a matrix.
    pub(crate) subgroup_len: u32,
    /// Subgroups over the rows and over the tokens.
    pub(crate) subgroups: [u32; 2],
    /// Matrices of a subgroup over the rows, 1, 2, 4 or 5, and over the tokens, 1 or 2.
    pub(crate) fragments: [u32; 2],
    /// Columns of a step.
    pub(crate) k_step: u32,
    /// Workgroups that share the columns.
    pub(crate) n_splits: u32,
    /// Whether weights are decoded on their way, instead of being expanded to halves first.
    pub(crate) decodes: bool,
}

impl fmt::Display for GemmShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([rows, tokens], [m, n], [i, j]) = (self.tile(), self.subgroups, self.fragments);
        write!(f, "tiles {rows}x{tokens} of {m}x{n} subgroups with {i}x{j} matrices, {} columns", self.k_step)?;
        if self.n_splits > 1 {
            write!(f, ", shared by {}", self.n_splits)?;
        }
        write!(f, "{}", if self.decodes { ", decoding" } else { "" })
    }
}

impl GemmShape {
    /// Rows and tokens of a workgroup.
    pub(crate) fn tile(self) -> [u32; 2] {
        [0, 1].map(|i| 16 * self.fragments[i] * self.subgroups[i])
    }

    /// Threads of a workgroup.
    fn workgroup(self) -> u32 {
        self.subgroup_len * self.subgroups[0] * self.subgroups[1]
    }

    /// Workgroups of a product of `n_rows` rows and `n_tokens` tokens, before they share columns.
    fn n_tiles(self, n_rows: usize, n_tokens: u32) -> u32 {
        let [tile_rows, tile_tokens] = self.tile();
        n_rows.div_ceil(tile_rows as usize) as u32 * n_tokens.div_ceil(tile_tokens)
    }

    /// Steps over `n_cols` columns.
    fn n_steps(self, n_cols: usize) -> u32 {
        n_cols.next_multiple_of(PIECE_LEN).div_ceil(self.k_step as usize) as u32
    }

    /// This shape with the columns shared among about `n_splits` workgroups, none of which is left without a step.
    pub(crate) fn split(self, n_cols: usize, n_splits: u32) -> GemmShape {
        let n_steps = self.n_steps(n_cols);
        let per_split = n_steps.div_ceil(n_splits.clamp(1, n_steps));
        GemmShape { n_splits: n_steps.div_ceil(per_split), ..self }
    }

    /// Whether a device has the threads and the memory for a workgroup, and every thread its share of a step.
    pub(crate) fn fits(self, features: &Features) -> bool {
        /// Subgroups that stage a matrix at the same time, see `wgsl/gemm/out_product.wgsl`.
        const MAX_STAGING: u32 = 4;

        let ([tile_rows, tile_tokens], workgroup) = (self.tile(), self.workgroup());
        let n_staging = (workgroup / self.subgroup_len).min(MAX_STAGING);
        let n_bytes = 2 * (self.k_step + 8) * (tile_rows + tile_tokens) + 4 * 256 * n_staging;
        let has_share = |rows: u32, shares: &[u32]| {
            let n_chunks = rows * self.k_step / 8;
            n_chunks.is_multiple_of(workgroup) && shares.contains(&(n_chunks / workgroup))
        };
        let has_units = self.k_step == 64 && [1, 2].map(|n| n * workgroup / 2).contains(&tile_rows);
        let has_weights = if self.decodes { has_units } else { has_share(tile_rows, &[1, 2, 4, 5]) };
        let fits_device = workgroup <= features.max_workgroup_len && n_bytes <= features.max_workgroup_n_bytes;
        fits_device && has_weights && has_share(tile_tokens, &[1, 2, 4])
    }

    /// The shapes for a matrix `[n_rows, n_cols]` and `n_tokens` tokens; none if the device runs none.
    pub(super) fn candidates(
        [n_rows, n_cols]: [usize; 2],
        n_tokens: u32,
        decodes: bool,
        features: &Features,
    ) -> Vec<GemmShape> {
        /// Workgroups that share the columns.
        const SPLITS: [u32; 5] = [1, 2, 3, 4, 8];
        /// Workgroups for each core: fewer leave cores idle, more than the others take longer to sum up.
        const PER_CORE: [f64; 2] = [0.4, 6.0];

        let Some(usual) = GemmShape::usual([n_rows, n_cols], n_tokens, decodes, features) else { return vec![] };
        let mut shapes = vec![usual];
        for shape in GemmShape::tiles(n_tokens, decodes, features) {
            let n_tiles = shape.n_tiles(n_rows, n_tokens);
            for split in SPLITS.map(|n| shape.split(n_cols, n)) {
                let n_workgroups = n_tiles * split.n_splits;
                let is_some = (features.per_core(PER_CORE[0])..=features.per_core(PER_CORE[1])).contains(&n_workgroups);
                if !shapes.contains(&split) && (is_some || split.n_splits == 1) {
                    shapes.push(split);
                }
            }
        }
        shapes
    }

    /// All tiles that are no larger than `n_tokens` tokens ask for.
    fn tiles(n_tokens: u32, decodes: bool, features: &Features) -> Vec<GemmShape> {
        /// Subgroups, their matrices, and columns of a step.
        const TILES: [([u32; 2], [u32; 2], u32); 9] = [
            ([4, 1], [1, 1], 64),
            ([4, 1], [1, 2], 64),
            ([2, 2], [2, 2], 64),
            ([1, 4], [5, 1], 64),
            ([2, 4], [2, 2], 64),
            ([2, 4], [5, 1], 64),
            ([2, 4], [4, 2], 64),
            ([2, 4], [4, 2], 32),
            ([2, 4], [5, 2], 64),
        ];

        let Some(subgroup_len) = features.matrix_subgroup_len() else { return vec![] };
        let shape = |(subgroups, fragments, k_step)| GemmShape {
            subgroup_len,
            subgroups,
            fragments,
            k_step,
            n_splits: 1,
            decodes,
        };
        // Wider tiles than this leave most of their tokens empty, narrower ones read weights too often.
        let is_suitable = |shape: &GemmShape| {
            let tile_tokens = shape.tile()[1];
            tile_tokens < 2 * n_tokens.max(16) && tile_tokens >= n_tokens.min(64)
        };
        TILES.map(shape).into_iter().filter(|shape| shape.fits(features)).filter(is_suitable).collect()
    }

    /// The shape that is best without a measurement; `None` if the device runs none.
    fn usual([n_rows, n_cols]: [usize; 2], n_tokens: u32, decodes: bool, features: &Features) -> Option<GemmShape> {
        /// With fewer steps a workgroup is hardly worth its start.
        const MIN_STEPS: u32 = 3;
        /// Workgroups for each core that keep the device busy by themselves.
        const MANY: f64 = 1.21;
        /// Workgroups for each core that keep it busy together with those of other products.
        const SOME: f64 = 0.485;
        /// From this number of columns on, a workgroup takes so long that a core with only one of them waits for memory: it takes
        /// more workgroups to hide that.
        const LONG: usize = 8192;
        const MANY_LONG: f64 = 3.88;
        /// Up to this number of tokens a workgroup mostly waits for its weights: it takes MANY_LONG workgroups to keep enough loads in
        /// flight.
        const FEW_TOKENS: u32 = 64;
        /// From this number of tokens to FEW_TOKENS, tiles are square. Their sums take longer to write, so fewer workgroups share
        /// columns: at most MANY_SQUARE for each core,
        const SQUARE: u32 = 33;
        const MANY_SQUARE: f64 = 3.635;
        /// or, from LONG columns on, at most two.
        const MANY_SQUARE_LONG: f64 = 1.82;
        /// Wave quantization: these numbers of workgroups for each core keep some cores busy twice as long as the others. Twice
        /// as many workgroups, each half as long, even that out,
        const UNEVEN: Range<f64> = 1.06..1.515;
        /// Most tokens for which that pays: the sums of more tokens take longer to write than the cores would idle.
        const MANY_TOKENS: u32 = 256;
        /// Rows of a matrix that has no others beside it.
        const TALL: usize = 4096;
        /// Up to this number of columns, writing takes longer than summing, and small tiles are written by more threads.
        const SHORT: usize = 512;
        /// Subgroups and matrices of the largest tile, 160 rows for 128 tokens.
        const LARGE: ([u32; 2], [u32; 2]) = ([2, 4], [5, 2]);
        /// Workgroups of the largest tile for each core that fill the device. Their threads take so many registers that a core runs one at a time.
        const FULL: f64 = 0.97;
        /// Tiles for each core from which on large ones are worth it.
        const SMALLER: f64 = 0.15;

        // Subgroups, their matrices, columns of a step, and the tiles that they must come to: from large tiles, which read
        // less, to small ones, of which there are more.
        let smaller = features.per_core(SMALLER);
        let shapes: &[_] = match (decodes, n_tokens) {
            (_, ..=16) => &[([4, 1], [1, 1], 64, 1)],
            (_, ..=32) => &[([4, 1], [1, 2], 64, 1)],
            (_, ..=64) => &[([2, 2], [2, 2], 64, 1)],
            _ if n_cols <= SHORT => &[([2, 2], [2, 2], 64, 1)],
            (true, _) => &[([2, 4], [4, 2], 64, smaller), ([2, 2], [2, 2], 64, 1)],
            (false, _) => &[
                (LARGE.0, LARGE.1, 64, smaller),
                ([2, 4], [4, 2], 64, smaller),
                ([2, 4], [4, 2], 32, smaller),
                ([2, 2], [2, 2], 64, 1),
            ],
        };
        let subgroup_len = features.matrix_subgroup_len()?;
        let shape = |&(subgroups, fragments, k_step, min_tiles): &_| {
            let shape = GemmShape { subgroup_len, subgroups, fragments, k_step, n_splits: 1, decodes };
            (shape, min_tiles)
        };
        let fitting: Vec<(GemmShape, u32)> =
            shapes.iter().map(shape).filter(|(shape, _)| shape.fits(features)).collect();
        let reaches = |&&(shape, min_tiles): &&(GemmShape, u32)| shape.n_tiles(n_rows, n_tokens) >= min_tiles;
        let (shape, _) = *fitting.iter().find(reaches).or(fitting.last())?;
        let n_tiles = shape.n_tiles(n_rows, n_tokens);
        let is_square = (SQUARE..=FEW_TOKENS).contains(&n_tokens);
        let of_cores = |n: f64| features.per_core(n);
        let uneven = of_cores(UNEVEN.start)..of_cores(UNEVEN.end);
        let wanted = match n_cols >= LONG {
            _ if (shape.subgroups, shape.fragments) == LARGE => of_cores(FULL) / n_tiles,
            true if is_square => of_cores(MANY_SQUARE_LONG) / n_tiles,
            false if is_square && n_rows > TALL => of_cores(MANY_SQUARE) / n_tiles,
            _ if n_tokens <= FEW_TOKENS && n_rows > TALL => of_cores(MANY_LONG).div_ceil(n_tiles),
            true if n_tiles < of_cores(MANY) => of_cores(MANY_LONG).div_ceil(n_tiles),
            false if n_tiles < of_cores(SOME) => of_cores(MANY).div_ceil(n_tiles),
            _ if uneven.contains(&n_tiles) && (n_tokens <= MANY_TOKENS || n_cols >= LONG) => 2,
            _ => 1,
        };
        let max_splits = (shape.n_steps(n_cols) / MIN_STEPS).clamp(1, 16);
        Some(shape.split(n_cols, wanted.min(max_splits)))
    }
}

/// Whether products of more tokens than mat-vec kernels take multiply halves: the device has matrices of the right kind,
/// subgroups of a fixed size, and room for every tile.
pub(crate) fn multiplies_halves(features: &Features) -> bool {
    let fits = |decodes| GemmShape::usual([64, 64], 128, decodes, features).is_some();
    fits(true) && fits(false)
}

/// The shapes for a product, the best without a measurement first; none if the device has no matrices of the right kind.
pub(super) fn candidates(op: &MatMul, features: &Features) -> Vec<GemmShape> {
    /// Up to this number of tokens, decoding every weight once for each tile costs less than expanding it to halves once.
    const MAX_DECODE_TOKENS: u32 = 128;
    /// The same for small matrices, whose expansion has too few workgroups to fill the device.
    const MAX_DECODE_TOKENS_OF_SMALL: u32 = 1024;
    /// Elements of a matrix that is not small.
    const SMALL: usize = 3 << 20;
    /// Matrices that are larger in halves are not expanded: not every device can bind them.
    const MAX_EXPANDED_N_BYTES: usize = 128 << 20;

    if !multiplies_halves(features) {
        return vec![];
    }
    let (n_tokens, sizes) = (op.class.0, [op.n_rows, op.n_cols]);
    let is_large = op.n_rows * op.n_cols * 2 > MAX_EXPANDED_N_BYTES;
    let max_decode_tokens = if op.n_rows * op.n_cols < SMALL { MAX_DECODE_TOKENS_OF_SMALL } else { MAX_DECODE_TOKENS };
    let decodes = op.layout.dtype != DType::F16 && (n_tokens <= max_decode_tokens || is_large);
    let mut shapes = GemmShape::candidates(sizes, n_tokens, decodes, features);
    // Where the two ways take about as long, a measurement decides between them, too.
    let is_near = (MAX_DECODE_TOKENS / 4..=2 * max_decode_tokens).contains(&n_tokens);
    if is_near && !is_large && op.layout.dtype != DType::F16 {
        shapes.extend(GemmShape::usual(sizes, n_tokens, !decodes, features));
    }
    shapes
}

/// Memory for the sums of row ranges, in turn.
const SUMS: [&str; 2] = ["sums", "sums of another row range"];

/// The dispatches of a product.
pub(super) fn lower(op: &MatMul, shape: GemmShape, matrices: Matrices) -> Vec<Dispatch> {
    let halved = (!op.in_halves[0]).then(|| halve(op));
    let x = halved.as_ref().map_or(Binding::Region(op.x), |(_, halves)| halves.clone());
    let mut dispatches: Vec<Dispatch> = halved.into_iter().map(|(dispatch, _)| dispatch).collect();
    dispatches.extend(expansions(op, shape));
    let ranges: Vec<_> = op.splits.iter().enumerate().collect();
    // Two row ranges at a time have memory for their sums.
    for ranges in ranges.chunks(SUMS.len()) {
        dispatches.extend(ranges.iter().map(|&(split, rows)| multiply(op, (shape, matrices), x.clone(), split, rows)));
        if shape.n_splits > 1 {
            dispatches.extend(ranges.iter().map(|&(split, rows)| sum(op, shape, split, rows)));
        }
    }
    dispatches
}

/// Where the result goes.
fn out(op: &MatMul) -> Binding {
    if op.in_halves[1] { Binding::Region(op.out) } else { Binding::Value(op.out) }
}

/// The dispatch that brings the input into halves, and the buffer it writes.
fn halve(op: &MatMul) -> (Dispatch, Binding) {
    /// Threads, each with a piece.
    const WORKGROUP: u32 = 64;

    let n_pieces = op.n_cols.div_ceil(PIECE_LEN);
    let (name, row_n_bytes) = ("halves", 2 * n_pieces * PIECE_LEN);
    let halves = Binding::Scratch { name, rows: op.rows, row_n_bytes, product: 0 };
    let modules = vec![
        wgsl!("weight/piece.wgsl"),
        spec::input_module(op.n_cols),
        wgsl!("halves.wgsl"),
        wgsl!("matmul/halve.wgsl"),
    ];
    let kernel = KernelSpec::new("halve", modules)
        .access(&[Access::ReadWrite, Access::Read])
        .constant("N_COLS", op.n_cols as f64)
        .constant("WORKGROUP", f64::from(WORKGROUP));
    let per_row = Extent::Fixed((n_pieces as u32).div_ceil(WORKGROUP));
    let grid = [per_row, Extent::Rows { rows: op.rows, per_workgroup: 1 }, Extent::Fixed(1)];
    (kernel.dispatch(vec![halves.clone(), Binding::Value(op.x)], grid), halves)
}

/// The kernel that multiplies a row range of the matrix.
fn multiply(
    op: &MatMul,
    (shape, matrices): (GemmShape, Matrices),
    x: Binding,
    split: usize,
    rows: &Range<usize>,
) -> Dispatch {
    let stored = Binding::Matrix { weight: op.weight, split };
    let matrix = if expands(op, shape) { expanded(op, split, rows) } else { stored };
    let bias = op.bias.map_or(matrix.clone(), Binding::Vector);
    let residual = op.residual.map_or(matrix.clone(), Binding::Value);
    let out = if shape.n_splits > 1 { sums(op, shape, split, rows) } else { out(op) };
    let bindings = vec![matrix, x, bias, residual, out, Binding::Step, target_rows(op, rows)];
    let [tile_rows, tile_tokens] = shape.tile();
    let tokens = Extent::Rows { rows: op.rows, per_workgroup: tile_tokens };
    let grid = [tokens, Extent::Fixed((rows.len() as u32).div_ceil(tile_rows)), Extent::Fixed(shape.n_splits)];
    spec::gemm(op, shape, matrices).dispatch(bindings, grid)
}

/// The kernel that adds up what the workgroups which share columns have summed.
fn sum(op: &MatMul, shape: GemmShape, split: usize, rows: &Range<usize>) -> Dispatch {
    /// Threads, each with this number of rows.
    const WORKGROUP: u32 = 128;
    const N_ROWS: u32 = 4;

    let [tile_rows, tile_tokens] = shape.tile();
    let sums = sums(op, shape, split, rows);
    let sizes = Binding::Constants(Arc::from([tile_rows, tile_tokens, shape.n_splits, 0]));
    let bias = op.bias.map_or(sums.clone(), Binding::Vector);
    let residual = op.residual.map_or(sums.clone(), Binding::Value);
    let bindings = vec![sums, sizes, bias, residual, out(op), Binding::Step, target_rows(op, rows)];
    let tokens = Extent::Rows { rows: op.rows, per_workgroup: 1 };
    let grid = [Extent::Fixed((rows.len() as u32).div_ceil(N_ROWS * WORKGROUP)), tokens, Extent::Fixed(1)];
    spec::sum(op).constant("WORKGROUP", f64::from(WORKGROUP)).dispatch(bindings, grid)
}

/// Memory for the sums of workgroups that share columns.
fn sums(op: &MatMul, shape: GemmShape, split: usize, rows: &Range<usize>) -> Binding {
    let n_rows = rows.len().next_multiple_of(shape.tile()[0] as usize);
    let row_n_bytes = 4 * n_rows * shape.n_splits as usize;
    Binding::Scratch { name: SUMS[split % SUMS.len()], rows: op.rows, row_n_bytes, product: 0 }
}

/// Whether the weights must become halves before they are multiplied.
fn expands(op: &MatMul, shape: GemmShape) -> bool {
    !shape.decodes && op.layout.dtype != DType::F16
}

/// Memory for a row range of the matrix in halves.
fn expanded(op: &MatMul, split: usize, rows: &Range<usize>) -> Binding {
    let n_bytes = rows.len() * op.n_cols.next_multiple_of(PIECE_LEN) * 2;
    Binding::Expanded { n_bytes, split, product: 0 }
}

/// The dispatches that bring the matrix into halves, if it is to be expanded.
fn expansions(op: &MatMul, shape: GemmShape) -> Vec<Dispatch> {
    let each = op.splits.iter().enumerate().filter(|_| expands(op, shape));
    each.map(|(split, rows)| expand(op, split, rows)).collect()
}

/// Brings a row range of the matrix into halves.
fn expand(op: &MatMul, split: usize, rows: &Range<usize>) -> Dispatch {
    /// Threads, each with a piece.
    const WORKGROUP: u32 = 128;
    /// GRID_WIDTH of `wgsl/matmul/expand.wgsl`.
    const GRID_WIDTH: u32 = 1 << 15;

    let kernel = spec::expand(op).constant("WORKGROUP", f64::from(WORKGROUP));
    let sizes = Binding::Constants(Arc::from([rows.len() as u32, 0, 0, 0]));
    let n_pieces = rows.len() * op.n_cols.div_ceil(PIECE_LEN);
    let n = n_pieces.div_ceil(WORKGROUP as usize) as u32;
    let grid = [Extent::Fixed(n.min(GRID_WIDTH)), Extent::Fixed(n.div_ceil(GRID_WIDTH)), Extent::Fixed(1)];
    kernel.dispatch(vec![Binding::Matrix { weight: op.weight, split }, expanded(op, split, rows), sizes], grid)
}
