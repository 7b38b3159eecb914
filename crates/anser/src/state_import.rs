//! States that other programs made: web-rwkv's layout, and initial states from state tuning.

use crate::error::Error;
use crate::model::Model;
use anser_format::{FileKind, ModelFile, TensorInfo, quant};
use anser_model::{State, StateError, StateRef, Version};
use std::ops::Range;

impl Model {
    /// The state in `data`, in web-rwkv's order: `[L, N + 2, C]` (web-rwkv itself writes dimensions as `[C, N + 2, L,
    /// 1]`, the fastest first).
    ///
    /// In each layer, row 0 is the attention's shift and row N + 1 the feed-forward layer's. Row 1 + k is key column k of
    /// all heads' matrices: the element at `h·N + v` belongs to value row v of head h. The matrices are those of
    /// [`State`] transposed.
    ///
    /// # Errors
    /// Another number of elements than the model's state has; a number that is not finite.
    pub fn state_from_web_rwkv(&self, data: &[f32]) -> Result<State, Error> {
        let (n_layer, n_embd, n_head, n) = self.state_sizes()?;
        let expected = n_layer * (n + 2) * n_embd;
        if data.len() != expected {
            return Err(StateError::Length { expected, found: data.len() }.into());
        }
        let mut state = vec![0.0; self.state_layout().len()];
        for (layer, rows) in data.chunks_exact((n + 2) * n_embd).enumerate() {
            let (att_shift, rows) = rows.split_at(n_embd);
            let (matrices, ffn_shift) = rows.split_at(n * n_embd); // [N, C]
            state[self.part_of_layer("att_shift", layer)].copy_from_slice(att_shift);
            state[self.part_of_layer("ffn_shift", layer)].copy_from_slice(ffn_shift);
            let wkv = &mut state[self.part_of_layer("wkv", layer)]; // [H, N, N]
            for (h, matrix) in (0..n_head).zip(wkv.chunks_exact_mut(n * n)) {
                for (k, row) in matrices.chunks_exact(n_embd).enumerate() {
                    for (v, &x) in row[h * n..][..n].iter().enumerate() {
                        matrix[v * n + k] = x;
                    }
                }
            }
        }
        Ok(State::from_vec(self.state_layout().clone(), state)?)
    }

    /// The initial state in a state-tuned file: `blocks.L.att.time_state` `[H, N, N]` for every layer. Training programs write
    /// `.pth` files: head, value row, key column. web-rwkv's converter makes safetensors of them and transposes the last two
    /// dimensions: head, key column, value row. Shifts are zero.
    ///
    /// # Errors
    /// If the file cannot be read or is damaged, if a tensor is missing or has another shape than this model's state.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn import_state(&self, path: impl AsRef<std::path::Path>) -> Result<State, Error> {
        let file = ModelFile::open(path)?;
        self.state_from_tuned(&file)
    }

    /// [`Model::import_state`] of an open file.
    ///
    /// # Errors
    /// As [`Model::import_state`].
    pub fn state_from_tuned(&self, file: &ModelFile) -> Result<State, Error> {
        let refuse = |reason: String| Error::StateFile { file: file.name().into(), reason };
        let is_transposed = match file.kind() {
            FileKind::Safetensors => true,
            FileKind::Torch(_) => false,
            FileKind::Gguf { .. } => {
                return Err(refuse("a GGUF file; state-tuned files are .pth or safetensors".into()));
            }
        };
        let (n_layer, _, n_head, n) = self.state_sizes()?;
        let mut state = vec![0.0; self.state_layout().len()];
        for layer in 0..n_layer {
            let name = format!("blocks.{layer}.att.time_state");
            let tensor = file.info(&name).ok_or_else(|| {
                refuse(format!("tensor {name} is missing; expected one for each of the model's {n_layer} layers"))
            })?;
            let matrices = numbers(tensor, [n_head, n, n]).map_err(refuse)?;
            let wkv = &mut state[self.part_of_layer("wkv", layer)];
            for (theirs, ours) in matrices.chunks_exact(n * n).zip(wkv.chunks_exact_mut(n * n)) {
                for (at, x) in ours.iter_mut().enumerate() {
                    *x = theirs[if is_transposed { at % n * n + at / n } else { at }];
                }
            }
        }
        State::from_vec(self.state_layout().clone(), state).map_err(|e| refuse(e.to_string()))
    }

    /// L, C, H, N of a model whose state has matrices `[H, N, N]`.
    fn state_sizes(&self) -> Result<(usize, usize, usize, usize), Error> {
        let config = self.config();
        match config.version {
            Version::V5 | Version::V6 | Version::V7 | Version::V7a => {
                Ok((config.n_layer, config.n_embd, config.n_head, config.head_size))
            }
            _ => Err(Error::Option {
                option: "state",
                reason: "only states of RWKV-5, 6 and 7 can be imported: those of RWKV-4 have no matrices".into(),
            }),
        }
    }

    /// The range of elements of a part of one layer; empty if the state has no such part.
    fn part_of_layer(&self, name: &str, layer: usize) -> Range<usize> {
        let layout = self.state_layout();
        layout.part(name).map_or(0..0, |part| layout.range(StateRef { part, layer }))
    }
}

/// The elements of `tensor`, which must have `shape`.
fn numbers(tensor: TensorInfo<'_>, shape: [usize; 3]) -> Result<Vec<f32>, String> {
    let Some(dtype) = tensor.stored.computed() else {
        return Err(format!(
            "{}: its type {} is not supported; F32, F16 or BF16 is needed",
            tensor.name, tensor.stored
        ));
    };
    if tensor.shape != shape {
        return Err(format!("{}: expected {shape:?}, found {:?}", tensor.name, tensor.shape));
    }
    let mut numbers = vec![0.0; shape.iter().product()];
    quant::dequantize(dtype, &tensor.read().map_err(|error| error.to_string())?, &mut numbers);
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use crate::{Error, Model, Options};
    use safetensors::tensor::{Dtype, TensorView};
    use std::collections::HashMap;
    use std::path::PathBuf;

    fn tiny() -> Model {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tiny/tiny-v7.st");
        Model::load(path, &Options { device: crate::Device::Cpu, ..Options::default() }).unwrap()
    }

    /// State J of prompt p0, from package rwkv: per layer att_x, s [head, value, key], ffn_x.
    fn oracle(j: usize) -> Vec<f32> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tiny/tiny-v7.expected.safetensors");
        let bytes = std::fs::read(path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let tensor = file.tensor(&format!("p0.state.{j}")).unwrap();
        tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    #[test]
    fn a_state_in_web_rwkvs_layout_is_the_oracles_state() {
        let model = tiny();
        let (n_layer, c, h, n) = model.state_sizes().unwrap();
        let (mut theirs, mut att_shift, mut wkv, mut ffn_shift) = (vec![], vec![], vec![], vec![]);
        for layer in 0..n_layer {
            let (att, s, ffn) = (oracle(3 * layer), oracle(3 * layer + 1), oracle(3 * layer + 2));
            assert_eq!((att.len(), s.len()), (c, h * n * n));
            theirs.extend_from_slice(&att);
            // What web-rwkv's shader adds to row 1 + k is k[k]·v, with v over the row: all heads' values for that key.
            theirs.extend((0..n * c).map(|at| {
                let (k, channel) = (at / c, at % c);
                s[(channel / n) * n * n + (channel % n) * n + k]
            }));
            theirs.extend_from_slice(&ffn);
            att_shift.extend(att);
            wkv.extend(s);
            ffn_shift.extend(ffn);
        }
        let state = model.state_from_web_rwkv(&theirs).unwrap();
        assert_eq!(state.part("att_shift").unwrap(), att_shift);
        assert_eq!(state.part("wkv").unwrap(), wkv);
        assert_eq!(state.part("ffn_shift").unwrap(), ffn_shift);
    }

    #[test]
    fn other_lengths_and_numbers_that_are_not_finite_are_refused() {
        let model = tiny();
        let (n_layer, c, _, n) = model.state_sizes().unwrap();
        let len = n_layer * (n + 2) * c;
        let error = model.state_from_web_rwkv(&vec![0.0; len - 1]).unwrap_err().to_string();
        assert!(error.contains(&len.to_string()) && error.contains(&(len - 1).to_string()), "{error}");
        let mut data = vec![0.0; len];
        data[len - 1] = f32::NAN;
        let error = model.state_from_web_rwkv(&data).unwrap_err().to_string();
        assert!(error.contains("ffn_shift") && error.contains("NaN"), "{error}");
    }

    /// Writes tensors `[H, N, N]` of f32, one per name.
    fn write(tensors: &[(String, [usize; 3], Vec<f32>)]) -> tempfile::NamedTempFile {
        let bytes: Vec<Vec<u8>> =
            tensors.iter().map(|(_, _, data)| data.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
        let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
            (name.as_str(), TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap())
        });
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), safetensors::serialize(views, None::<HashMap<String, String>>).unwrap()).unwrap();
        file
    }

    #[test]
    fn a_state_tuned_file_gives_transposed_matrices_and_zero_shifts() {
        let model = tiny();
        let (n_layer, _, h, n) = model.state_sizes().unwrap();
        let tensors: Vec<_> = (0..n_layer)
            .map(|layer| {
                // Element [head, key, value] tells where it came from; all exact in f32.
                let element = |at: usize| (layer * 1_000_000 + at) as f32;
                (format!("blocks.{layer}.att.time_state"), [h, n, n], (0..h * n * n).map(element).collect())
            })
            .collect();
        let file = write(&tensors);
        let state = model.import_state(file.path()).unwrap();
        let wkv = state.part("wkv").unwrap();
        for (layer, head, value, key) in [(0, 0, 0, 1), (1, 2, 5, 0), (2, 1, 63, 62), (2, 2, 63, 63)] {
            let found = wkv[((layer * h + head) * n + value) * n + key];
            assert_eq!(found, (layer * 1_000_000 + (head * n + key) * n + value) as f32);
        }
        assert!(state.part("att_shift").unwrap().iter().chain(state.part("ffn_shift").unwrap()).all(|&x| x == 0.0));

        let refused = |tensors: &[_]| match model.import_state(write(tensors).path()) {
            Err(Error::StateFile { reason, .. }) => reason,
            other => panic!("{other:?}"),
        };
        assert!(refused(&tensors[..n_layer - 1]).contains("blocks.2.att.time_state is missing"));
        let mut wrong = tensors.clone();
        wrong[1].1 = [h * n, n, 1];
        assert!(refused(&wrong).contains("blocks.1.att.time_state: expected [3, 64, 64], found [192, 64, 1]"));
        wrong = tensors;
        wrong[1].2[7] = f32::INFINITY;
        assert!(refused(&wrong).contains("layer 1"));
    }
}
