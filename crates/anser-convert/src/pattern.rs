//! Rules that give tensors another type than the file type does.

use crate::error::ConvertError;
use anser_format::DType;
use std::fmt;
use std::str::FromStr;

/// `PATTERN=TYPE`: matrices whose whole name the pattern matches get the type. `*` in a pattern stands for any text; a pattern with it leaves small
/// matrices alone that llama-quantize leaves alone, and a name without it means any matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeRule {
    /// The pattern.
    pub pattern: String,
    /// The type.
    pub dtype: DType,
}

impl TypeRule {
    /// Whether the rule is about the tensor `name`.
    pub fn matches(&self, name: &str) -> bool {
        let mut pieces = self.pattern.split('*');
        // What stands before the first asterisk begins the name.
        let Some(mut rest) = pieces.next().and_then(|first| name.strip_prefix(first)) else { return false };
        let mut pieces = pieces.peekable();
        if pieces.peek().is_none() {
            return rest.is_empty();
        }
        while let Some(piece) = pieces.next() {
            if pieces.peek().is_none() {
                return rest.ends_with(piece);
            }
            match rest.find(piece) {
                Some(at) => rest = &rest[at + piece.len()..],
                None => return false,
            }
        }
        true
    }

    /// The error of a rule that cannot be followed.
    pub(crate) fn refused(&self, problem: String) -> ConvertError {
        ConvertError::Rule { rule: self.to_string(), problem }
    }
}

impl fmt::Display for TypeRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.pattern, self.dtype)
    }
}

impl FromStr for TypeRule {
    type Err = String;

    fn from_str(text: &str) -> Result<TypeRule, String> {
        let (pattern, name) = text.split_once('=').ok_or("a pattern, an equals sign and a type are needed")?;
        if pattern.is_empty() {
            return Err("the pattern is empty; * stands for every tensor".into());
        }
        let dtype = DType::ALL.into_iter().find(|dtype| dtype.name().eq_ignore_ascii_case(name));
        let problem = match dtype {
            Some(dtype) if dtype.has_quantizer() => return Ok(TypeRule { pattern: pattern.into(), dtype }),
            Some(_) => "a type that is read only",
            None => "no type of tensors",
        };
        let known: Vec<_> = DType::ALL.into_iter().filter(|dtype| dtype.has_quantizer()).map(DType::name).collect();
        Err(format!("{name:?} is {problem}; one of {} is needed", known.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asterisk_stands_for_any_text() {
        let rule = |pattern: &str| TypeRule { pattern: pattern.into(), dtype: DType::Q8_0 };
        let cases = [
            ("output.weight", "output.weight", true),
            ("output.weight", "output.weight2", false),
            ("*key.weight", "blk.0.time_mix_key.weight", true),
            ("blk.0.*", "blk.0.time_mix_key.weight", true),
            ("blk.0.*", "blk.10.time_mix_key.weight", false),
            ("blk.*.time_mix_*.weight", "blk.3.time_mix_key.weight", true),
            ("blk.*.channel*key*", "blk.3.channel_mix_value.weight", false),
            ("*", "anything", true),
            ("a*a", "a", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(rule(pattern).matches(name), expected, "{pattern} and {name}");
        }
    }

    #[test]
    fn rules_are_read_and_wrong_ones_refused() {
        let rule: TypeRule = "*gate*=q6_k".parse().unwrap();
        assert_eq!(rule.to_string(), "*gate*=Q6_K");
        for text in ["", "a", "=Q6_K", "a=Q4_K_M", "a=IQ2_XS"] {
            assert!(text.parse::<TypeRule>().is_err(), "{text:?}");
        }
    }
}
