//! Writes a synthetic model.

use std::io::{Seek, Write};

use anser_convert::{Architecture, Header, Rwkv6Ranks, Rwkv7Ranks, Vocabulary};
use anser_format::{GgufDataWriter, GgufWriteError, GgufWriter, SafetensorsWriteError};
use half::f16;
use rayon::prelude::*;

use crate::blocks::Blocks;
use crate::folder;
use crate::pth;
use crate::random::{Stream, normal_quantiles};
use crate::recipe::{TensorRecipe, Values, tensors};
use crate::shape::{FileType, Form, HEAD_SIZE, Shape, Version};

/// The number of elements that one thread makes at once from one random stream. It is a multiple of every block length.
const CHUNK_LEN: usize = 1 << 20;

/// The reason for which a synthetic model cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum SynthError {
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] GgufWriteError),
    /// The file cannot be written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A file of a folder cannot be written.
    #[error(transparent)]
    Safetensors(#[from] SafetensorsWriteError),
    /// A `.pth` file, and a folder, have floats only.
    #[error("a .pth file or folder of type {} is not possible, it must be f16", .0.name())]
    PthType(FileType),
    /// llama.cpp knows no such models.
    #[error("there is no GGUF form of {0}; name a file that ends in .pth")]
    NoGguf(&'static str),
    /// Only RWKV-7 is written as a folder.
    #[error("{0} is not written as a folder; name a file that ends in .pth")]
    NoFolder(&'static str),
    /// The sparsity is out of range.
    #[error("a sparsity of {0} is not possible, it must be from 0.05 to 0.99")]
    Sparsity(f64),
    /// The model has no layers.
    #[error("a model needs at least one layer")]
    NoLayers,
}

/// A synthetic model.
#[derive(Clone, Copy, Debug)]
pub struct Synth {
    /// The sizes.
    pub shape: Shape,
    /// The element types.
    pub file_type: FileType,
    /// The seed of all random numbers.
    pub seed: u64,
    /// The wanted fraction of exact zeros among the feed-forward activations relu(x)², 0.05 to 0.99; `None` means that
    /// of symmetric random weights, about a half. Trained models have more.
    ///
    /// A sparsity is reached with a bias: the norm before the feed-forward part gets a bias of mean 0.5, and the key
    /// matrix a mean, so that each pre-activation is normal around a negative number instead of zero. Part of it belongs
    /// to the row and part to the token, as in trained models. The measured fraction is within about 0.01.
    pub sparsity: Option<f64>,
}

impl Synth {
    /// The tensors in file order.
    pub fn tensors(&self) -> Vec<TensorRecipe> {
        tensors(self.shape, self.file_type, self.sparsity)
    }

    /// Checks that the model can be made in this form; the functions that write it check this, too.
    ///
    /// # Errors
    /// If the sparsity is out of range, there are no layers, or the form has no such version or type.
    pub fn check(&self, form: Form) -> Result<(), SynthError> {
        match self.sparsity {
            Some(sparsity) if !(0.05..=0.99).contains(&sparsity) => return Err(SynthError::Sparsity(sparsity)),
            _ if self.shape.n_layer == 0 => return Err(SynthError::NoLayers),
            _ => {}
        }
        match (form, self.shape.version) {
            (Form::Gguf, Version::V4 | Version::V5) => Err(SynthError::NoGguf(self.shape.name)),
            (Form::Folder, Version::V4 | Version::V5 | Version::V6) => Err(SynthError::NoFolder(self.shape.name)),
            (Form::Pth | Form::Folder, _) if self.file_type != FileType::F16 => {
                Err(SynthError::PthType(self.file_type))
            }
            (Form::Gguf, Version::V6 | Version::V7) | (Form::Pth, _) | (Form::Folder, Version::V7) => Ok(()),
        }
    }

    /// Writes the model to `out`, in writes of about a megabyte. `on_progress` is called with the bytes of tensor data
    /// written so far and in all. The call uses all threads of rayon's pool, and a few megabytes per thread.
    ///
    /// # Errors
    /// If the sparsity is out of range, there are no layers, or the output fails.
    pub fn write<W: Write>(&self, out: W, mut on_progress: impl FnMut(u64, u64)) -> Result<W, SynthError> {
        self.check(Form::Gguf)?;
        let tensors = self.tensors();
        let mut writer = GgufWriter::new();
        self.add_metadata(&mut writer)?;
        for tensor in &tensors {
            writer.tensor(&tensor.name, tensor.dtype, &tensor.shape)?;
        }
        let n_bytes_in_all = writer.data_n_bytes();
        let mut n_bytes_written = 0;
        let mut data = writer.begin(out)?;
        for tensor in &tensors {
            n_bytes_written += self.write_tensor(&mut data, tensor)?;
            on_progress(n_bytes_written, n_bytes_in_all);
        }
        Ok(data.finish()?)
    }

    /// Writes the model as a `.pth` file with the numbers of the GGUF file; otherwise as [`write`](Synth::write).
    ///
    /// # Errors
    /// As [`write`](Synth::write), and if the file type is not F16.
    pub fn write_pth<W: Write + Seek>(&self, out: W, mut on_progress: impl FnMut(u64, u64)) -> Result<W, SynthError> {
        self.check(Form::Pth)?;
        let recipes = self.tensors();
        let placed: Vec<(&TensorRecipe, pth::Tensor)> = recipes
            .iter()
            .flat_map(|recipe| {
                pth::tensors_of(recipe, self.shape.version).into_iter().map(move |tensor| (recipe, tensor))
            })
            .collect();
        let n_bytes_of = |tensor: &pth::Tensor| 2 * tensor.shape.iter().product::<usize>() as u64;
        let n_bytes_in_all = placed.iter().map(|(_, tensor)| n_bytes_of(tensor)).sum();
        let mut n_bytes_written = 0;
        let mut archive = pth::Archive::new(out);
        let (recipes, tensors): (Vec<_>, Vec<_>) = placed.into_iter().unzip();
        let pickle = pth::pickle(&tensors);
        archive.add("data.pkl", pickle.len() as u64, std::iter::once(pickle))?;
        archive.add("byteorder", 6, std::iter::once(b"little".to_vec()))?;
        for (key, (recipe, tensor)) in recipes.into_iter().zip(&tensors).enumerate() {
            let n_bytes = n_bytes_of(tensor);
            let pieces = self.pieces(recipe).map(|piece| pth::to_f16(recipe.dtype, piece));
            let name = format!("data/{key}");
            if tensor.is_transposed || tensor.row.is_some() {
                // Small enough to be made as a whole.
                let mut whole: Vec<u8> = pieces.flatten().collect();
                if tensor.is_transposed
                    && let [.., n_rows, n_cols] = recipe.shape[..]
                {
                    whole = pth::transposed(&whole, [n_rows, n_cols]);
                }
                if let Some(row) = tensor.row {
                    whole = whole.split_off(row * n_bytes as usize);
                    whole.truncate(n_bytes as usize);
                }
                archive.add(&name, n_bytes, std::iter::once(whole))?;
            } else {
                archive.add(&name, n_bytes, pieces)?;
            }
            n_bytes_written += n_bytes;
            on_progress(n_bytes_written, n_bytes_in_all);
        }
        archive.add("version", 2, std::iter::once(b"3\n".to_vec()))?;
        Ok(archive.finish()?)
    }

    /// Writes an RWKV-7 model as the file `model.safetensors` of a Hugging Face folder, with the numbers of the GGUF file and the
    /// names of `Rwkv7ForCausalLM`; [`config`](Synth::config) goes beside it. Otherwise as [`write`](Synth::write).
    ///
    /// # Errors
    /// As [`write`](Synth::write), for another version, and if the file type is not F16.
    pub fn write_safetensors<W: Write>(
        &self,
        mut out: W,
        mut on_progress: impl FnMut(u64, u64),
    ) -> Result<W, SynthError> {
        self.check(Form::Folder)?;
        let recipes = self.tensors();
        let placed: Vec<(&TensorRecipe, pth::Tensor)> = recipes
            .iter()
            .flat_map(|recipe| folder::tensors_of(recipe).into_iter().map(move |tensor| (recipe, tensor)))
            .collect();
        let (recipes, tensors): (Vec<_>, Vec<_>) = placed.into_iter().unzip();
        let header = folder::header(&tensors)?;
        let n_bytes_in_all = header.data_n_bytes();
        out.write_all(&header.to_bytes())?;
        let mut n_bytes_written = 0;
        for (recipe, tensor) in recipes.into_iter().zip(&tensors) {
            let n_bytes = folder::n_bytes_of(tensor);
            let pieces = self.pieces(recipe).map(|piece| pth::to_f16(recipe.dtype, piece));
            match tensor.row {
                Some(row) => {
                    let whole: Vec<u8> = pieces.flatten().collect();
                    out.write_all(&whole[row * n_bytes as usize..][..n_bytes as usize])?;
                }
                None => pieces.into_iter().try_for_each(|piece| out.write_all(&piece))?,
            }
            n_bytes_written += n_bytes;
            on_progress(n_bytes_written, n_bytes_in_all);
        }
        Ok(out)
    }

    /// The text of `config.json` beside [`write_safetensors`](Synth::write_safetensors).
    pub fn config(&self) -> String {
        folder::config(&self.shape)
    }

    /// The entries that llama.cpp's converter writes.
    fn add_metadata(&self, writer: &mut GgufWriter) -> Result<(), GgufWriteError> {
        let Shape { version, name, n_layer, n_embd, n_rank_wa, n_rank_v, n_rank_g } = self.shape;
        let architecture = match version {
            Version::V6 => Architecture::Rwkv6(Rwkv6Ranks { rescale_every: 0, mix: n_rank_v, decay: n_rank_wa }),
            Version::V4 | Version::V5 | Version::V7 => {
                Architecture::Rwkv7(Rwkv7Ranks { decay: n_rank_wa, rate: n_rank_wa, value: n_rank_v, gate: n_rank_g })
            }
        };
        let header = Header {
            architecture,
            name: format!("synthetic RWKV {name}"),
            size_label: name.to_uppercase(),
            n_layer,
            n_embd,
            n_ffn: self.shape.n_ffn(),
            head_size: HEAD_SIZE,
            layer_norm_eps: 1e-5,
            file_type: self.file_type.id(),
        };
        let entries = header.entries().into_iter().chain(Vocabulary::World.entries());
        entries.into_iter().try_for_each(|(key, value)| writer.metadata(&key, value))
    }

    /// Makes and writes one tensor, and returns the number of its bytes.
    fn write_tensor<W: Write>(
        &self,
        data: &mut GgufDataWriter<W>,
        tensor: &TensorRecipe,
    ) -> Result<u64, GgufWriteError> {
        let mut n_bytes = 0;
        data.write_tensor(&tensor.name, self.pieces(tensor).inspect(|piece| n_bytes += piece.len() as u64))?;
        Ok(n_bytes)
    }

    /// The bytes of a tensor, in pieces.
    fn pieces<'a>(&'a self, tensor: &'a TensorRecipe) -> Box<dyn Iterator<Item = Vec<u8>> + 'a> {
        let n_elements: usize = tensor.shape.iter().product();
        match &tensor.values {
            Values::Curve { points, noise } => Box::new(std::iter::once(self.noisy(&tensor.name, points, *noise))),
            Values::Normal { mean, std } => {
                // Recipes and file types have no other types, whatever the input.
                let blocks = Blocks::new(tensor.dtype, *mean, *std).expect("a type that can be made");
                Box::new(self.chunks(&tensor.name, n_elements, blocks))
            }
        }
    }

    /// The bytes of a tensor, chunk by chunk. As many chunks as there are threads are made in parallel.
    fn chunks(&self, name: &str, n_elements: usize, blocks: Blocks) -> impl Iterator<Item = Vec<u8>> {
        let seed = self.seed;
        let n_chunks = n_elements.div_ceil(CHUNK_LEN);
        let group_len = 2 * rayon::current_num_threads();
        (0..n_chunks).step_by(group_len).flat_map(move |first| {
            let group = first..(first + group_len).min(n_chunks);
            let make = |chunk: usize| {
                let n = (n_elements - chunk * CHUNK_LEN).min(CHUNK_LEN);
                blocks.generate(&mut Stream::new(seed, name, chunk as u64), n)
            };
            group.into_par_iter().map(make).collect::<Vec<_>>()
        })
    }

    /// The bytes of F32 values around `points`, rounded to F16 as all other values.
    fn noisy(&self, name: &str, points: &[f32], noise: f32) -> Vec<u8> {
        let mut stream = Stream::new(self.seed, name, 0);
        let quantiles = normal_quantiles();
        let value = |point: &f32| {
            let z = quantiles[usize::from(stream.next_u64() as u16)];
            f16::from_f32(point + noise * z).to_f32().to_le_bytes()
        };
        points.iter().flat_map(value).collect()
    }
}
