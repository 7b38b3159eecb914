//! A model with other elements for some of its tensors, and with further tensors that no file has.

use super::tensor::Form;
use super::{ModelFile, Tensor, TensorEntry, tensor_name};
use crate::tensor::DType;
use std::sync::Arc;

/// Elements in memory that stand for those of a tensor of a file; see [`ModelFile::replacing`].
#[derive(Clone, Debug)]
pub struct Replacement {
    /// The tensor's name in the file.
    pub name: String,
    /// How the new elements are stored.
    pub dtype: DType,
    /// The new elements, row-major in the tensor's shape.
    pub bytes: Vec<u8>,
}

/// A tensor in memory that no file of the model has; see [`ModelFile::adding`].
#[derive(Clone, Debug)]
pub struct Addition {
    /// Its name, by which [`ModelFile::added`] finds it. Tensors of the files may have the same one.
    pub name: String,
    /// How the elements are stored.
    pub dtype: DType,
    /// Slowest dimension first.
    pub shape: Vec<usize>,
    /// The elements, row-major.
    pub bytes: Vec<u8>,
}

impl ModelFile {
    /// The same model with other elements for some of its tensors, such as weights into which an adapter is merged. The new elements lie in
    /// memory; all other tensors stay where they are, and the files are shared. `variant` names what was put in, for
    /// [`ModelFile::variant`].
    ///
    /// # Panics
    /// If the file has no tensor of a name, or the bytes are not as many as its shape needs.
    pub fn replacing(self: &Arc<Self>, replacements: Vec<Replacement>, variant: &str) -> Arc<ModelFile> {
        let mut tensors = self.tensors.clone();
        for Replacement { name, dtype, bytes } in replacements {
            let found = self.tensor_index.find(&self.tensors, tensor_name, &name);
            let entry = &mut tensors[found.unwrap_or_else(|| panic!("{}: no tensor {name}", self.name))];
            *entry = self.in_memory(entry.name.clone(), dtype, entry.shape.clone(), entry.part, bytes);
        }
        self.with_tensors(tensors, variant)
    }

    /// The same model with further tensors in memory, such as an adapter's low-rank pairs, instead of those that it had been given before.
    /// [`ModelFile::added`] finds them, and nothing else: [`ModelFile::tensors`] and [`ModelFile::tensor`] are about the files' own. `variant`
    /// is as for [`ModelFile::replacing`].
    ///
    /// # Panics
    /// If two additions have one name, or the bytes of one are not as many as its shape needs.
    pub fn adding(self: &Arc<Self>, mut additions: Vec<Addition>, variant: &str) -> Arc<ModelFile> {
        additions.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(pair) = additions.windows(2).find(|pair| pair[0].name == pair[1].name) {
            panic!("{}: {} is added twice", self.name, pair[0].name);
        }
        let mut tensors = self.tensors[..self.n_in_files].to_vec();
        tensors.extend(
            additions.into_iter().map(|Addition { name, dtype, shape, bytes }| {
                self.in_memory(name.into(), dtype, shape.into(), 0, bytes)
            }),
        );
        self.with_tensors(tensors, variant)
    }

    /// A tensor whose elements are `bytes`; it counts as one of part `part`.
    fn in_memory(&self, name: Box<str>, dtype: DType, shape: Box<[usize]>, part: usize, bytes: Vec<u8>) -> TensorEntry {
        let (n_cols, n_rows) = (shape.last().copied().unwrap_or(1), shape.iter().rev().skip(1).product::<usize>());
        assert_eq!(dtype.row_n_bytes(n_cols).map(|n| n * n_rows), Some(bytes.len()), "{}: {name}", self.name);
        let (n_bytes, replaced) = (Some(bytes.len()), Some(bytes.into()));
        TensorEntry { name, stored: dtype.into(), shape, part, start: 0, n_bytes, strided: None, replaced }
    }

    /// The same files with other tensors.
    fn with_tensors(&self, tensors: Vec<TensorEntry>, variant: &str) -> Arc<ModelFile> {
        Arc::new(ModelFile {
            name: self.name.clone(),
            kind: self.kind,
            parts: self.parts.clone(),
            tensors,
            tensor_index: self.tensor_index.clone(),
            metadata: self.metadata.clone(),
            metadata_index: self.metadata_index.clone(),
            n_in_files: self.n_in_files,
            variant: Some(variant.into()),
        })
    }

    /// The tensor called `name` among those that [`ModelFile::adding`] has added; no tensor of the files, whatever its name, is one of them.
    pub fn added(self: &Arc<Self>, name: &str) -> Option<Tensor> {
        let added = &self.tensors[self.n_in_files..];
        let index = self.n_in_files + added.binary_search_by(|entry| tensor_name(entry).cmp(name)).ok()?;
        let dtype = self.tensors[index].stored.computed()?;
        Some(Tensor { file: Arc::clone(self), index, dtype, form: Form::AsStored })
    }

    /// Whether [`ModelFile::adding`] has added tensors, of which what looks at the files' own tensors alone knows nothing.
    pub fn has_added(&self) -> bool {
        self.n_in_files < self.tensors.len()
    }

    /// The name of what [`ModelFile::replacing`] and [`ModelFile::adding`] have put in; `None` for a model as its files have it.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SafetensorsHeader;

    #[test]
    fn a_replaced_tensor_has_its_new_elements_in_every_form() {
        let mut header = SafetensorsHeader::new();
        header.tensor("a", DType::F32, &[2, 2]).unwrap();
        header.tensor("b", DType::F32, &[2]).unwrap();
        let mut bytes = header.to_bytes();
        bytes.extend([1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0].iter().flat_map(|x| x.to_le_bytes()));
        let file = ModelFile::from_bytes("two", bytes).unwrap();
        // 7, 8, 9, 10 in F16.
        let new: Vec<u8> = [0x4700u16, 0x4800, 0x4880, 0x4900].iter().flat_map(|x| x.to_le_bytes()).collect();
        let replacement = Replacement { name: "a".into(), dtype: DType::F16, bytes: new.clone() };
        let variant = file.replacing(vec![replacement], "v");
        let a = variant.tensor("a").unwrap();
        assert_eq!((a.dtype(), a.shape(), a.bytes(), a.n_bytes()), (DType::F16, &[2, 2][..], &new[..], 8));
        assert_eq!(a.fetch(2..6, &mut vec![]).unwrap(), &new[2..6]);
        let columns = a.transposed().unwrap();
        assert_eq!(columns.bytes(), [&new[..2], &new[4..6], &new[2..4], &new[6..]].concat());
        assert_eq!(variant.info("a").unwrap().view().unwrap().bytes, new);
        assert_eq!(variant.tensor("b").unwrap().bytes(), file.tensor("b").unwrap().bytes());
        assert_eq!((file.variant(), variant.variant()), (None, Some("v")));
        assert_eq!(file.tensor("a").unwrap().dtype(), DType::F32);
    }

    #[test]
    fn an_added_tensor_is_found_as_added_alone() {
        let mut header = SafetensorsHeader::new();
        header.tensor("a", DType::F32, &[1]).unwrap();
        let file = ModelFile::from_bytes("one", [header.to_bytes(), 3.0f32.to_le_bytes().to_vec()].concat()).unwrap();
        let addition = |name: &str, x: f32| Addition {
            name: name.into(),
            dtype: DType::F32,
            shape: vec![1, 1],
            bytes: x.to_le_bytes().to_vec(),
        };
        let variant = file.adding(vec![addition("c", 5.0), addition("a", 4.0)], "v");
        assert_eq!((variant.variant(), variant.has_added(), file.has_added()), (Some("v"), true, false));
        assert_eq!(variant.tensors().map(|info| info.name.to_owned()).collect::<Vec<_>>(), ["a"]);
        assert_eq!(variant.tensor("a").unwrap().bytes(), 3.0f32.to_le_bytes());
        assert!(variant.tensor("c").is_none() && file.added("a").is_none() && variant.added("b").is_none());
        let added = variant.added("c").unwrap();
        assert_eq!((added.name(), added.shape(), added.dtype()), ("c", &[1, 1][..], DType::F32));
        assert_eq!(variant.added("a").unwrap().fetch(0..4, &mut vec![]).unwrap(), 4.0f32.to_le_bytes());
        // Other elements for a tensor of the file leave what was added; new additions stand for the old ones.
        let replacement = Replacement { name: "a".into(), dtype: DType::F32, bytes: 6.0f32.to_le_bytes().to_vec() };
        let both = variant.replacing(vec![replacement], "w");
        assert_eq!(both.tensor("a").unwrap().bytes(), 6.0f32.to_le_bytes());
        assert_eq!(both.added("a").unwrap().bytes(), 4.0f32.to_le_bytes());
        assert!(both.adding(vec![addition("b", 1.0)], "x").added("a").is_none());
    }
}
