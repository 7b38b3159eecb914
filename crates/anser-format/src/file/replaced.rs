//! A model with other elements for some of its tensors.

use super::{ModelFile, TensorEntry, tensor_name};
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
            let n_cols = entry.shape.last().copied().unwrap_or(1);
            let n_rows = entry.shape.iter().rev().skip(1).product::<usize>();
            assert_eq!(dtype.row_n_bytes(n_cols).map(|n| n * n_rows), Some(bytes.len()), "{}: {name}", self.name);
            *entry = TensorEntry {
                stored: dtype.into(),
                start: 0,
                n_bytes: Some(bytes.len()),
                strided: None,
                replaced: Some(bytes.into()),
                ..entry.clone()
            };
        }
        Arc::new(ModelFile {
            name: self.name.clone(),
            kind: self.kind,
            parts: self.parts.clone(),
            tensors,
            tensor_index: self.tensor_index.clone(),
            metadata: self.metadata.clone(),
            metadata_index: self.metadata_index.clone(),
            variant: Some(variant.into()),
        })
    }

    /// The name of what [`ModelFile::replacing`] has put in the place of some tensors; `None` for a model as its files have it.
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
}
