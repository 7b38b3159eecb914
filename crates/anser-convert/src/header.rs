//! The metadata of a GGUF file, under the keys of llama.cpp's converter.

use anser_format::MetaValue;

/// Under `general.quantization_version`.
pub(crate) const QUANTIZATION_VERSION: u32 = 2;
/// Under `context_length`: a model without attention has no limit, and llama.cpp wants a number.
const CONTEXT_LENGTH: u32 = 1 << 20;

/// What stands in the metadata of an RWKV model beside its vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// The version, and the sizes that only it has.
    pub architecture: Architecture,
    /// A name for people.
    pub name: String,
    /// The number of parameters for people, for example `2.9B`.
    pub size_label: String,
    /// L, number of layers.
    pub n_layer: usize,
    /// C, width of the residual stream.
    pub n_embd: usize,
    /// F, width of the feed-forward layer.
    pub n_ffn: usize,
    /// N, size of a head.
    pub head_size: usize,
    /// Epsilon of the layer norms.
    pub layer_norm_eps: f32,
    /// The number of the file type, see [`crate::FileType`].
    pub file_type: u32,
}

/// An RWKV version that GGUF has a form for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// RWKV-6.
    Rwkv6(Rwkv6Ranks),
    /// RWKV-7.
    Rwkv7(Rwkv7Ranks),
}

/// Sizes that only RWKV-6 has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rwkv6Ranks {
    /// After how many layers llama.cpp halves the residual stream, for which matrices are stored smaller; 0 for never.
    pub rescale_every: usize,
    /// Rank of the five pairs that mix tokens.
    pub mix: usize,
    /// Rank of the decay's pair.
    pub decay: usize,
}

/// Ranks of RWKV-7's low-rank pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rwkv7Ranks {
    /// Of the decay, w1 and w2.
    pub decay: usize,
    /// Of the in-context learning rate, a1 and a2.
    pub rate: usize,
    /// Of the value residual, v1 and v2.
    pub value: usize,
    /// Of the gate, g1 and g2.
    pub gate: usize,
}

impl Architecture {
    /// The name under `general.architecture`, which keys of sizes begin with.
    pub fn name(&self) -> &'static str {
        match self {
            Architecture::Rwkv6(_) => "rwkv6",
            Architecture::Rwkv7(_) => "rwkv7",
        }
    }
}

impl Header {
    /// Keys and values in the order of llama.cpp's converter.
    pub fn entries(&self) -> Vec<(String, MetaValue)> {
        let number = |n: usize| MetaValue::U32(u32::try_from(n).unwrap_or(u32::MAX));
        let text = |text: &str| MetaValue::Str(text.to_owned());
        let arch = self.architecture.name();
        let own = match self.architecture {
            Architecture::Rwkv6(Rwkv6Ranks { rescale_every, mix, decay }) => vec![
                ("rescale_every_n_layers", rescale_every),
                ("time_mix_extra_dim", mix),
                ("time_decay_extra_dim", decay),
            ],
            Architecture::Rwkv7(Rwkv7Ranks { decay, rate, value, gate }) => vec![
                ("attention.decay_lora_rank", decay),
                ("attention.iclr_lora_rank", rate),
                ("attention.value_residual_mix_lora_rank", value),
                ("attention.gate_lora_rank", gate),
            ],
        };
        let sizes = [
            ("context_length", MetaValue::U32(CONTEXT_LENGTH)),
            ("embedding_length", number(self.n_embd)),
            ("block_count", number(self.n_layer)),
            ("attention.layer_norm_epsilon", MetaValue::F32(self.layer_norm_eps)),
            ("wkv.head_size", number(self.head_size)),
        ];
        let own = own.into_iter().map(|(key, n)| (key, number(n)));
        // There are no attention heads, and llama.cpp wants a number.
        let last = [("feed_forward_length", number(self.n_ffn)), ("attention.head_count", number(0))];
        let general = [
            ("general.architecture", text(arch)),
            ("general.type", text("model")),
            ("general.name", text(&self.name)),
            ("general.size_label", text(&self.size_label)),
        ];
        let general = general.map(|(key, value)| (key.to_owned(), value));
        let sizes = sizes.into_iter().chain(own).chain(last).map(|(key, value)| (format!("{arch}.{key}"), value));
        let types = [
            ("general.file_type".to_owned(), MetaValue::U32(self.file_type)),
            ("general.quantization_version".to_owned(), MetaValue::U32(QUANTIZATION_VERSION)),
        ];
        general.into_iter().chain(sizes).chain(types).collect()
    }
}

/// A number of parameters for people: `2.9B`, `191M`.
pub(crate) fn size_label(n_parameters: usize) -> String {
    let (number, unit) = match n_parameters as f64 {
        n if n >= 1e9 => (n / 1e9, "B"),
        n if n >= 1e6 => (n / 1e6, "M"),
        n => (n / 1e3, "K"),
    };
    if number < 10.0 { format!("{number:.1}{unit}") } else { format!("{number:.0}{unit}") }
}

#[cfg(test)]
mod tests {
    #[test]
    fn size_labels_have_two_digits_or_more() {
        for (n, label) in [(2_948_000_000, "2.9B"), (13_240_000_000, "13B"), (191_100_000, "191M"), (87_000, "87K")] {
            assert_eq!(super::size_label(n), label);
        }
    }
}
