//! The options and the errors of a [`Sampler`](super::Sampler).

use thiserror::Error;

/// The point at which the temperature acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SamplerOrder {
    /// The order of RWKV's own inference code, which its recommended settings assume: penalties → softmax → filters on
    /// those raw probabilities → `p^(1/temperature)` of what is left → renormalise → draw. Probabilities are those of
    /// the softmax over the whole vocabulary until all filters have run.
    #[default]
    Rwkv,
    /// The order of most other engines: penalties → logits / temperature → softmax → filters → draw. The probabilities are
    /// renormalised after every filter.
    Common,
}

/// The options with which tokens are drawn.
///
/// The steps run in this order: [`logit_bias`](Self::logit_bias), repetition penalty, presence and frequency penalty,
/// then softmax, temperature and filters as [`order`](Self::order) says. The filters run in the order typical-p, top-k,
/// top-p, min-p; each keeps at least one token, and among equally likely tokens the lower id comes first.
///
/// The default suits chat with an RWKV model: temperature 1, top-p 0.3, presence and frequency penalty 0.5 with decay
/// 0.996, all other filters off.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplerOptions {
    /// The point at which the temperature acts.
    pub order: SamplerOrder,
    /// Flattens the distribution above 1 and sharpens it below; 0 always takes the most likely token.
    pub temperature: f32,
    /// Keeps this many of the most likely tokens; 0 = off.
    pub top_k: usize,
    /// Keeps the most likely tokens that together reach this probability, 0 to 1; 1 = off, 0 = the most likely token.
    pub top_p: f32,
    /// Keeps the tokens at least this likely relative to the most likely one, 0 to 1; 0 = off.
    pub min_p: f32,
    /// Keeps the tokens whose information content is closest to the expected one (the entropy) and that together reach
    /// this probability, 0 to 1; 1 = off. Formula: Meister et al., "Locally Typical Sampling".
    pub typical_p: f32,
    /// Subtracted from the logit of every token that was counted at least once, −100 to 100; 0 = off.
    pub presence_penalty: f32,
    /// Subtracted from a token's logit times its count, −100 to 100; 0 = off.
    pub frequency_penalty: f32,
    /// Multiplies every count before a new token is counted, 0 to 1; 1 = counts last.
    pub penalty_decay: f32,
    /// Divides the positive logits of counted tokens and multiplies the others, 0.01 to 100; 1 = off.
    pub repetition_penalty: f32,
    /// Added to the logits of single tokens, as (token id, −100 to 100); −∞ forbids the token.
    pub logit_bias: Vec<(u32, f32)>,
    /// Start of the random numbers: the same seed, options and logits give the same tokens on every platform. A GPU that
    /// draws itself gives them too, unless a random number lies within 5·10⁻⁶ of the border between two candidates.
    /// `None` takes a fresh one.
    pub seed: Option<u64>,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        SamplerOptions {
            order: SamplerOrder::Rwkv,
            temperature: 1.0,
            top_k: 0,
            top_p: 0.3,
            min_p: 0.0,
            typical_p: 1.0,
            presence_penalty: 0.5,
            frequency_penalty: 0.5,
            penalty_decay: 0.996,
            repetition_penalty: 1.0,
            logit_bias: vec![],
            seed: None,
        }
    }
}

impl SamplerOptions {
    /// Always the most likely token (the lowest id of equals), no penalties.
    pub fn greedy() -> Self {
        SamplerOptions { temperature: 0.0, top_p: 1.0, ..SamplerOptions::plain() }
    }

    /// The model's own distribution: temperature 1, no filter, no penalty.
    pub fn plain() -> Self {
        SamplerOptions { top_p: 1.0, presence_penalty: 0.0, frequency_penalty: 0.0, ..SamplerOptions::default() }
    }

    /// Settings recommended for RWKV-7 G1 models that think before they answer: temperature 0.96, top-p 0.76, top-k 32,
    /// presence penalty 1, frequency penalty 0.1, decay 0.988. With tools, switch the penalties off.
    pub fn thinking() -> Self {
        SamplerOptions {
            temperature: 0.96,
            top_p: 0.76,
            top_k: 32,
            presence_penalty: 1.0,
            frequency_penalty: 0.1,
            penalty_decay: 0.988,
            ..SamplerOptions::default()
        }
    }

    /// These options with presence and frequency penalty off: for texts that must repeat tokens, such as the quotes and commas of
    /// JSON.
    pub fn without_penalties(self) -> Self {
        SamplerOptions { presence_penalty: 0.0, frequency_penalty: 0.0, ..self }
    }

    /// Checks every option against its range and `logit_bias` against the vocabulary of `n_vocab` tokens.
    ///
    /// # Errors
    /// The first option out of range, by name, with what is allowed.
    pub fn validate(&self, n_vocab: usize) -> Result<(), SamplerError> {
        let ranges = [
            ("temperature", self.temperature, 0.0, f32::MAX),
            ("top_p", self.top_p, 0.0, 1.0),
            ("min_p", self.min_p, 0.0, 1.0),
            ("typical_p", self.typical_p, 0.0, 1.0),
            ("presence_penalty", self.presence_penalty, -MAX_SHIFT, MAX_SHIFT),
            ("frequency_penalty", self.frequency_penalty, -MAX_SHIFT, MAX_SHIFT),
            ("penalty_decay", self.penalty_decay, 0.0, 1.0),
            ("repetition_penalty", self.repetition_penalty, 0.01, 100.0),
        ];
        for (option, found, low, high) in ranges {
            if !(low..=high).contains(&found) {
                return Err(SamplerError::OutOfRange { option, found, low, high });
            }
        }
        for &(token, found) in &self.logit_bias {
            if usize::try_from(token).map_or(true, |t| t >= n_vocab) {
                return Err(SamplerError::BiasToken { token, n_vocab });
            }
            if !(-MAX_SHIFT..=MAX_SHIFT).contains(&found) && found != f32::NEG_INFINITY {
                return Err(SamplerError::BiasValue { token, found });
            }
        }
        Ok(())
    }

    /// Whether only the most likely token can be drawn.
    pub(super) fn is_greedy(&self) -> bool {
        self.temperature == 0.0 || self.top_p == 0.0 || self.top_k == 1
    }

    /// Whether any filter is on.
    pub(super) fn has_filter(&self) -> bool {
        self.top_k > 0 || self.top_p < 1.0 || self.min_p > 0.0 || self.typical_p < 1.0
    }
}

/// The largest change of a logit by one option. It is far larger than differences of logits, and far from overflowing f32.
const MAX_SHIFT: f32 = 100.0;

/// The reason for which an option was refused or no token could be drawn.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum SamplerError {
    /// An option is NaN or outside its range.
    #[error("{option}: expected {} to {}, found {found}", Bound(*low), Bound(*high))]
    OutOfRange {
        /// Name of the option.
        option: &'static str,
        /// The value.
        found: f32,
        /// Lowest value allowed.
        low: f32,
        /// Highest value allowed.
        high: f32,
    },
    /// `logit_bias` names a token that the model does not have.
    #[error("logit_bias: expected token ids below {n_vocab}, found {token}")]
    BiasToken {
        /// The id.
        token: u32,
        /// Size of the vocabulary.
        n_vocab: usize,
    },
    /// `logit_bias` holds a value out of range.
    #[error("logit_bias: expected -100 to 100, or -inf to forbid the token, found {found} for token {token}")]
    BiasValue {
        /// The id.
        token: u32,
        /// The value.
        found: f32,
    },
    /// The model computed NaN or +∞.
    #[error(
        "the logit of token {token} is {found}, so no token can be drawn: the weights are damaged, \
         or the model left the range of its number format; try another file, or a device that computes in f32"
    )]
    NotANumber {
        /// The first such token.
        token: usize,
        /// Its logit.
        found: f32,
    },
    /// Every logit is −∞, or there is none.
    #[error("all {n_vocab} tokens are forbidden, so none can be drawn: allow at least one (see logit_bias)")]
    NoCandidate {
        /// Number of logits.
        n_vocab: usize,
    },
}

/// The bound of a range, for messages.
struct Bound(f32);

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 == f32::MAX { f.write_str("any finite number") } else { write!(f, "{}", self.0) }
    }
}
