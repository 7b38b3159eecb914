//! Writing a synthetic model as BlinkDL publishes them: what `torch.save` makes of a dictionary of tensors.
//!
//! A pickle that describes the tensors, and their bytes, stored one after another in a zip archive. All tensors are F16. The
//! numbers are those of the GGUF file of type F16; low-rank matrices lie transposed, as BlinkDL's do.

use std::io::{Seek, SeekFrom, Write};

use anser_format::DType;
use half::f16;

use crate::recipe::TensorRecipe;
use crate::shape::{HEAD_SIZE, Version};

/// Where tensors start in the file, as PyTorch has them.
const ALIGNMENT: u64 = 64;
/// The folder in the archive.
const ROOT: &str = "synth";
/// The extra field that fills the space up to an aligned place: `FB`, as PyTorch calls it.
const PADDING_FIELD: [u8; 2] = *b"FB";
/// A number that stands in a zip64 field instead.
const IN_ZIP64: u32 = u32::MAX;

/// A tensor of the `.pth` file.
pub(crate) struct Tensor {
    /// BlinkDL's name.
    pub(crate) name: String,
    /// Slowest dimension first.
    pub(crate) shape: Vec<usize>,
    /// The recipe's tensor has the dimensions the other way around.
    pub(crate) is_transposed: bool,
    /// The row of the recipe's tensor, where that stacks several vectors.
    pub(crate) row: Option<usize>,
}

/// What becomes of a tensor of the GGUF file: several tensors of one that stacks vectors, and nothing of the first layer's value
/// residual, which has no meaning.
pub(crate) fn tensors_of(recipe: &TensorRecipe, version: Version) -> Vec<Tensor> {
    let whole =
        |name: String, shape: &[usize]| vec![Tensor { name, shape: shape.to_vec(), is_transposed: false, row: None }];
    match version {
        Version::V4 | Version::V5 => return of_blink(recipe, version),
        Version::V6 | Version::V7 => {}
    }
    let outside = [
        ("token_embd.weight", "emb.weight"),
        ("token_embd_norm.weight", "blocks.0.ln0.weight"),
        ("token_embd_norm.bias", "blocks.0.ln0.bias"),
        ("output_norm.weight", "ln_out.weight"),
        ("output_norm.bias", "ln_out.bias"),
        ("output.weight", "head.weight"),
    ];
    if let Some((_, name)) = outside.iter().find(|(gguf, _)| *gguf == recipe.name) {
        return whole((*name).into(), &recipe.shape);
    }
    let Some((layer, part)) = recipe.name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) else {
        return vec![];
    };
    let name = |part: &str| format!("blocks.{layer}.{part}");
    let n_embd = recipe.shape.last().copied().unwrap_or(0);
    let norms = [("attn_norm.", "ln1."), ("attn_norm_2.", "ln2."), ("time_mix_ln.", "att.ln_x.")];
    if let Some((gguf, blink)) = norms.iter().find(|(gguf, _)| part.starts_with(gguf)) {
        return whole(name(&format!("{blink}{}", &part[gguf.len()..])), &recipe.shape);
    }
    let part = part.strip_suffix(".weight").unwrap_or(part);
    if part == "time_mix_lerp_fused" && version == Version::V6 {
        let rows = ["w", "k", "v", "r", "g"].into_iter().enumerate();
        let row = |(row, mix)| Tensor {
            name: name(&format!("att.time_maa_{mix}")),
            shape: vec![1, 1, n_embd],
            is_transposed: false,
            row: Some(row),
        };
        return rows.map(row).collect();
    }
    if let Some(tensor) = of_v6(part, recipe, &name).filter(|_| version == Version::V6) {
        return vec![tensor];
    }
    if part == "time_mix_lerp_fused" {
        let rows = ["x_r", "x_w", "x_k", "x_v", "x_a", "x_g"].into_iter().enumerate();
        let row = |(row, mix)| Tensor {
            name: name(&format!("att.{mix}")),
            shape: vec![1, 1, n_embd],
            is_transposed: false,
            row: Some(row),
        };
        return rows.map(row).collect();
    }
    match part.strip_prefix("time_mix_") {
        Some("v0" | "v1" | "v2") if layer == "0" => vec![],
        Some(matrix @ ("key" | "value" | "receptance" | "output")) => {
            whole(name(&format!("att.{matrix}.weight")), &recipe.shape)
        }
        Some("r_k") => whole(name("att.r_k"), &[n_embd / HEAD_SIZE, HEAD_SIZE]),
        Some(low_rank @ ("w1" | "w2" | "a1" | "a2" | "v1" | "v2" | "g1" | "g2")) => {
            let shape = recipe.shape.iter().rev().copied().collect();
            vec![Tensor { name: name(&format!("att.{low_rank}")), shape, is_transposed: true, row: None }]
        }
        Some(vector) => whole(name(&format!("att.{vector}")), &[1, 1, n_embd]),
        None => match part.strip_prefix("channel_mix_") {
            Some("lerp_k") => whole(name("ffn.x_k"), &[1, 1, n_embd]),
            Some(matrix) => whole(name(&format!("ffn.{matrix}.weight")), &recipe.shape),
            None => vec![],
        },
    }
}

/// What becomes of a tensor of RWKV-6 that RWKV-7 has not, or has in another form; `None` for others.
fn of_v6(part: &str, recipe: &TensorRecipe, name: &dyn Fn(&str) -> String) -> Option<Tensor> {
    let n_embd = recipe.shape.last().copied().unwrap_or(0);
    let tensor = |part: &str, shape: Vec<usize>, is_transposed| {
        Some(Tensor { name: name(part), shape, is_transposed, row: None })
    };
    let turned = |shape: &[usize]| {
        let mut shape = shape.to_vec();
        let n = shape.len();
        shape.swap(n - 2, n - 1);
        shape
    };
    match part {
        "time_mix_lerp_x" => tensor("att.time_maa_x", vec![1, 1, n_embd], false),
        "time_mix_w1" => tensor("att.time_maa_w1", turned(&recipe.shape), true),
        "time_mix_w2" => tensor("att.time_maa_w2", turned(&recipe.shape), true),
        "time_mix_first" => tensor("att.time_faaaa", recipe.shape.clone(), false),
        "time_mix_decay" => tensor("att.time_decay", vec![1, 1, n_embd], false),
        "time_mix_decay_w1" => tensor("att.time_decay_w1", turned(&recipe.shape), true),
        "time_mix_decay_w2" => tensor("att.time_decay_w2", turned(&recipe.shape), true),
        "time_mix_gate" => tensor("att.gate.weight", recipe.shape.clone(), false),
        "channel_mix_lerp_k" => tensor("ffn.time_maa_k", vec![1, 1, n_embd], false),
        "channel_mix_lerp_r" => tensor("ffn.time_maa_r", vec![1, 1, n_embd], false),
        _ => None,
    }
}

/// A tensor under BlinkDL's name, with the shape that BlinkDL's vectors have.
fn of_blink(recipe: &TensorRecipe, version: Version) -> Vec<Tensor> {
    let len: usize = recipe.shape.iter().product();
    let part = recipe.name.rsplit('.').next().unwrap_or_default();
    let shape = match part {
        "time_mix_k" | "time_mix_v" | "time_mix_r" | "time_mix_g" => vec![1, 1, len],
        "time_decay" | "time_faaaa" if version == Version::V5 => vec![len / HEAD_SIZE, HEAD_SIZE],
        _ => recipe.shape.clone(),
    };
    vec![Tensor { name: recipe.name.clone(), shape, is_transposed: false, row: None }]
}

/// Elements of the recipe's type in F16. They are values of F16 whatever their type.
pub(crate) fn to_f16(dtype: DType, bytes: Vec<u8>) -> Vec<u8> {
    match dtype {
        DType::F32 => bytes
            .as_chunks::<4>()
            .0
            .iter()
            .flat_map(|number| f16::from_f32(f32::from_le_bytes(*number)).to_le_bytes())
            .collect(),
        _ => bytes,
    }
}

/// The elements of one matrix or several `[n_rows, n_cols]`, of two bytes each, every matrix column by column.
pub(crate) fn transposed(bytes: &[u8], [n_rows, n_cols]: [usize; 2]) -> Vec<u8> {
    let matrices = bytes.as_chunks::<2>().0.chunks(n_rows * n_cols);
    let columns = |matrix: &[[u8; 2]]| -> Vec<u8> {
        (0..n_cols).flat_map(|col| matrix.iter().skip(col).step_by(n_cols)).flatten().copied().collect()
    };
    matrices.flat_map(columns).collect()
}

/// The pickle, of protocol 2: a dictionary from names to tensors, each with a storage of its own under its number.
pub(crate) fn pickle(tensors: &[Tensor]) -> Vec<u8> {
    fn text(out: &mut Vec<u8>, text: &str) {
        out.push(b'X');
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.as_bytes());
    }
    fn number(out: &mut Vec<u8>, number: usize) {
        // A signed number of eight bytes.
        out.extend([0x8a, 8]);
        out.extend((number as i64).to_le_bytes());
    }
    fn numbers(out: &mut Vec<u8>, list: &[usize]) {
        out.push(b'(');
        list.iter().for_each(|&n| number(out, n));
        out.push(b't');
    }
    let mut out = b"\x80\x02}(".to_vec();
    for (key, tensor) in tensors.iter().enumerate() {
        let n_elements: usize = tensor.shape.iter().product();
        let mut stride = n_elements;
        let strides: Vec<usize> = tensor
            .shape
            .iter()
            .map(|&n| {
                stride /= n;
                stride
            })
            .collect();
        text(&mut out, &tensor.name);
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend(b"ctorch\nHalfStorage\n");
        text(&mut out, &key.to_string());
        text(&mut out, "cpu");
        number(&mut out, n_elements);
        out.extend(b"tQ");
        number(&mut out, 0);
        numbers(&mut out, &tensor.shape);
        numbers(&mut out, &strides);
        out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    out.extend(b"u.");
    out
}

/// A zip archive that is being written, of entries that are stored as they are.
pub(crate) struct Archive<W> {
    out: W,
    at: u64,
    directory: Vec<u8>,
    n_entries: u64,
}

impl<W: Write + Seek> Archive<W> {
    pub(crate) fn new(out: W) -> Archive<W> {
        Archive { out, at: 0, directory: vec![], n_entries: 0 }
    }

    /// Adds an entry of `n_bytes` bytes, which come in pieces.
    pub(crate) fn add(
        &mut self,
        name: &str,
        n_bytes: u64,
        pieces: impl Iterator<Item = Vec<u8>>,
    ) -> std::io::Result<()> {
        const HEADER_N_BYTES: u64 = 30;
        const CRC_OFFSET: u64 = 14;
        let name = format!("{ROOT}/{name}");
        let start = self.at;
        let zip64 = |numbers: &[u64]| {
            let mut field = vec![1, 0];
            field.extend((8 * numbers.len() as u16).to_le_bytes());
            numbers.iter().for_each(|number| field.extend(number.to_le_bytes()));
            field
        };
        let is_large = n_bytes >= u64::from(IN_ZIP64);
        let size = if is_large { IN_ZIP64 } else { n_bytes as u32 };
        let mut extra = if is_large { zip64(&[n_bytes, n_bytes]) } else { vec![] };
        let unpadded = start + HEADER_N_BYTES + name.len() as u64 + extra.len() as u64 + 4;
        let n_padding = (unpadded.next_multiple_of(ALIGNMENT) - unpadded) as u16;
        extra.extend(PADDING_FIELD);
        extra.extend(n_padding.to_le_bytes());
        extra.extend(std::iter::repeat_n(b'Z', n_padding.into()));
        // Version, flags, method, time and date; then the checksum, which is not known yet.
        let version = [45, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let sizes = [size.to_le_bytes(), size.to_le_bytes()].concat();
        let name_len = (name.len() as u16).to_le_bytes();
        let header = [
            b"PK\x03\x04",
            &version[..],
            &[0; 4],
            &sizes,
            &name_len,
            &(extra.len() as u16).to_le_bytes(),
            name.as_bytes(),
            &extra,
        ]
        .concat();
        self.out.write_all(&header)?;
        let mut crc = Crc32::new();
        let mut n_written = 0;
        for piece in pieces {
            crc.update(&piece);
            self.out.write_all(&piece)?;
            n_written += piece.len() as u64;
        }
        debug_assert_eq!(n_written, n_bytes, "{name}");
        self.at = start + header.len() as u64 + n_bytes;
        self.out.seek(SeekFrom::Start(start + CRC_OFFSET))?;
        self.out.write_all(&crc.value().to_le_bytes())?;
        self.out.seek(SeekFrom::Start(self.at))?;

        let is_far = start >= u64::from(IN_ZIP64);
        let mut fields = vec![];
        if is_large {
            fields.extend([n_bytes, n_bytes]);
        }
        if is_far {
            fields.push(start);
        }
        let extra = if fields.is_empty() { vec![] } else { zip64(&fields) };
        let place = if is_far { IN_ZIP64 } else { start as u32 };
        self.directory.extend(
            [
                b"PK\x01\x02\x2d\x00",
                &version[..],
                &crc.value().to_le_bytes(),
                &sizes,
                &name_len,
                &(extra.len() as u16).to_le_bytes(),
                // Comment, disk, attributes.
                &[0; 10],
                &place.to_le_bytes(),
                name.as_bytes(),
                &extra,
            ]
            .concat(),
        );
        self.n_entries += 1;
        Ok(())
    }

    /// Writes the directory.
    pub(crate) fn finish(mut self) -> std::io::Result<W> {
        let (start, n_bytes, n) = (self.at.to_le_bytes(), (self.directory.len() as u64).to_le_bytes(), self.n_entries);
        let record = self.at + self.directory.len() as u64;
        self.out.write_all(&self.directory)?;
        // The zip64 end record, where to find it, and the end record that says to look there.
        let n64 = n.to_le_bytes();
        let zip64 = [b"PK\x06\x06", &44u64.to_le_bytes()[..], &[45, 0, 45, 0], &[0; 8], &n64, &n64, &n_bytes, &start];
        self.out.write_all(&zip64.concat())?;
        self.out.write_all(&[b"PK\x06\x07", &[0; 4][..], &record.to_le_bytes(), &[1, 0, 0, 0]].concat())?;
        self.out.write_all(&[b"PK\x05\x06", &[0; 4][..], &[0xff; 12], &[0; 2]].concat())?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// The checksum of zip archives (ISO 3309), a byte at a time.
struct Crc32 {
    table: [u32; 256],
    value: u32,
}

impl Crc32 {
    fn new() -> Crc32 {
        let entry = |byte: usize| {
            (0..8).fold(byte as u32, |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
        };
        Crc32 { table: std::array::from_fn(entry), value: u32::MAX }
    }

    fn update(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.value = (self.value >> 8) ^ self.table[usize::from(self.value as u8 ^ byte)];
        }
    }

    fn value(&self) -> u32 {
        !self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        let mut crc = Crc32::new();
        crc.update(b"1234");
        crc.update(b"56789");
        assert_eq!(crc.value(), 0xcbf4_3926);
    }
}
