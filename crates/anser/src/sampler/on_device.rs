//! The data with which a device draws tokens as a sampler does.

use super::{Sampler, SamplerOrder, seed_of_draw};
use anser_gpu::{DrawOptions, Seeds};

impl Sampler {
    /// Whether a device that draws could draw the tokens that this sampler would draw: such a device has no typical-p, its
    /// divisions (repetition penalty) are not exact, and it takes one bias per token.
    pub(crate) fn draws_on_device(&self) -> bool {
        let options = &self.options;
        let mut biased: Vec<u32> = options.logit_bias.iter().map(|&(token, _)| token).collect();
        biased.sort_unstable();
        let is_biased_twice = biased.windows(2).any(|pair| pair[0] == pair[1]);
        let is_typical = options.typical_p < 1.0 && !options.is_greedy();
        !is_typical && !is_biased_twice && options.repetition_penalty == 1.0
    }

    /// The options with which a device draws the tokens that this sampler would draw; `None` if it could not.
    pub(crate) fn on_device(&self) -> Option<DrawOptions> {
        let options = &self.options;
        self.draws_on_device().then(|| DrawOptions {
            greedy: options.is_greedy(),
            tempers_last: options.order == SamplerOrder::Rwkv,
            temperature: options.temperature,
            top_k: options.top_k,
            top_p: options.top_p,
            min_p: options.min_p,
            presence_penalty: options.presence_penalty,
            frequency_penalty: options.frequency_penalty,
            penalty_decay: options.penalty_decay,
            logit_bias: options.logit_bias.clone(),
            uncounted: self.uncounted.clone(),
            counts: self.seen.counts().to_vec(),
        })
    }

    /// The random numbers of the draws to come.
    pub(crate) fn seeds(&self) -> Seeds {
        let mut rng = self.rng.clone();
        Seeds::new(move || seed_of_draw(&mut rng))
    }

    /// Skips the random number with which a device has drawn a token.
    pub(crate) fn skip(&mut self) {
        if !self.options.is_greedy() {
            seed_of_draw(&mut self.rng);
        }
    }
}
