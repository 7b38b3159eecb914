//! File types: the mix of element types that llama-quantize gives to a file, under the numbers of `general.file_type`.

use anser_format::DType;
use std::fmt;
use std::str::FromStr;

/// A mix of element types, named after the type of most matrices.
#[allow(non_camel_case_types, reason = "the names are those of llama-quantize")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileType {
    /// Matrices in F32.
    F32,
    /// Matrices in F16.
    F16,
    /// Matrices in BF16.
    BF16,
    /// Matrices in Q4_0, the head in Q6_K.
    Q4_0,
    /// Matrices in Q4_1, the head in Q6_K.
    Q4_1,
    /// Matrices in Q5_0, the head in Q6_K.
    Q5_0,
    /// Matrices in Q5_1, the head in Q6_K.
    Q5_1,
    /// Matrices in Q8_0.
    Q8_0,
    /// Matrices in Q2_K, the head in Q6_K.
    Q2_K,
    /// As Q2_K, and only with an importance matrix.
    Q2_K_S,
    /// Matrices in Q3_K, the head in Q6_K.
    Q3_K_S,
    /// As Q3_K_S but for hybrids' `ffn_down`.
    Q3_K_M,
    /// As Q3_K_S but for hybrids' `ffn_down`.
    Q3_K_L,
    /// Matrices in Q4_K, the head in Q6_K.
    Q4_K_S,
    /// As Q4_K_S but for hybrids' `ffn_down`.
    Q4_K_M,
    /// Matrices in Q5_K, the head in Q6_K.
    Q5_K_S,
    /// As Q5_K_S but for hybrids' `ffn_down`.
    Q5_K_M,
    /// Matrices in Q6_K.
    Q6_K,
    /// Matrices in IQ4_NL, the head in Q6_K.
    IQ4_NL,
    /// Matrices in IQ4_XS, the head in Q6_K.
    IQ4_XS,
}

/// Name, number and type of most matrices.
type Row = (FileType, &'static str, u32, DType);

const ROWS: [Row; 20] = [
    (FileType::F32, "F32", 0, DType::F32),
    (FileType::F16, "F16", 1, DType::F16),
    (FileType::BF16, "BF16", 32, DType::BF16),
    (FileType::Q4_0, "Q4_0", 2, DType::Q4_0),
    (FileType::Q4_1, "Q4_1", 3, DType::Q4_1),
    (FileType::Q5_0, "Q5_0", 8, DType::Q5_0),
    (FileType::Q5_1, "Q5_1", 9, DType::Q5_1),
    (FileType::Q8_0, "Q8_0", 7, DType::Q8_0),
    (FileType::Q2_K, "Q2_K", 10, DType::Q2_K),
    (FileType::Q2_K_S, "Q2_K_S", 21, DType::Q2_K),
    (FileType::Q3_K_S, "Q3_K_S", 11, DType::Q3_K),
    (FileType::Q3_K_M, "Q3_K_M", 12, DType::Q3_K),
    (FileType::Q3_K_L, "Q3_K_L", 13, DType::Q3_K),
    (FileType::Q4_K_S, "Q4_K_S", 14, DType::Q4_K),
    (FileType::Q4_K_M, "Q4_K_M", 15, DType::Q4_K),
    (FileType::Q5_K_S, "Q5_K_S", 16, DType::Q5_K),
    (FileType::Q5_K_M, "Q5_K_M", 17, DType::Q5_K),
    (FileType::Q6_K, "Q6_K", 18, DType::Q6_K),
    (FileType::IQ4_NL, "IQ4_NL", 25, DType::IQ4_NL),
    (FileType::IQ4_XS, "IQ4_XS", 30, DType::IQ4_XS),
];

impl FileType {
    /// Every file type.
    pub const ALL: [FileType; 20] = {
        let mut all = [FileType::F32; 20];
        let mut i = 0;
        while i < all.len() {
            all[i] = ROWS[i].0;
            i += 1;
        }
        all
    };

    fn row(self) -> &'static Row {
        // The rows have the order of the declaration, which a test proves.
        &ROWS[self as usize]
    }

    /// The name, for example `"Q4_K_M"`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The number under `general.file_type`.
    pub fn id(self) -> u32 {
        self.row().2
    }

    /// The type of most matrices.
    pub fn dtype(self) -> DType {
        self.row().3
    }
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for FileType {
    type Err = String;

    fn from_str(name: &str) -> Result<FileType, String> {
        let found = FileType::ALL.into_iter().find(|file_type| file_type.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| format!("one of {} is needed", FileType::ALL.map(FileType::name).join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_the_order_of_the_declaration_and_names_are_read_in_any_case() {
        for (i, file_type) in FileType::ALL.into_iter().enumerate() {
            assert_eq!(file_type as usize, i);
            assert_eq!(file_type.name().to_lowercase().parse(), Ok(file_type));
        }
        assert!("Q4_K".parse::<FileType>().is_err());
    }
}
