//! The fields with which a request says how its texts are drawn, and where they end.

use crate::error::ApiError;
use crate::ids;
use anser::chat::Thinking;
use anser::{GenerateOptions, Grammar, SamplerOptions, SamplerOrder};
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use std::collections::HashMap;
use std::fmt;

/// The most stop texts, and the most characters of each.
const MAX_STOPS: usize = 16;
const MAX_STOP_CHARS: usize = 1000;
/// The most tokens with a bias.
const MAX_BIASES: usize = 1024;

/// What clients send of it.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Sampling {
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<usize>,
    min_p: Option<f32>,
    typical_p: Option<f32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    repetition_penalty: Option<f32>,
    penalty_decay: Option<f32>,
    sampler_order: Option<Order>,
    logit_bias: Option<HashMap<String, f32>>,
    seed: Option<i64>,
    stop: Option<Stop>,
    n: Option<usize>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    max_output_tokens: Option<usize>,
}

/// The point at which the temperature acts.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Order {
    Rwkv,
    Common,
}

/// A stop text or several.
#[derive(Debug, Default)]
struct Stop(Vec<String>);

/// What a request asks for, checked.
#[derive(Debug)]
pub(crate) struct Drawing {
    sampler: SamplerOptions,
    /// The texts that end a text.
    pub(crate) stop: Vec<String>,
    /// The most tokens of a text.
    pub(crate) max_tokens: usize,
    /// The number of texts.
    pub(crate) n: usize,
    /// The seed of the first text, given or fresh.
    pub(crate) seed: u64,
    /// What the texts must be.
    pub(crate) grammar: Option<Grammar>,
}

/// The bounds and defaults of a route.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// The most texts.
    pub(crate) max_n: usize,
    /// The most tokens of a text.
    pub(crate) max_tokens: usize,
    /// The most tokens where the request does not say.
    pub(crate) default_max_tokens: usize,
    pub(crate) n_vocab: usize,
    /// Whether the model thinks first, which has a recommended sampling of its own.
    pub(crate) thinking: Thinking,
    /// What the texts must be. Penalties would act on its structure, and are off unless given.
    pub(crate) grammar: Option<Grammar>,
}

impl Sampling {
    /// Checks all fields.
    pub(crate) fn check(&self, rules: &Rules) -> Result<Drawing, ApiError> {
        let n = self.n.unwrap_or(1);
        if !(1..=rules.max_n).contains(&n) {
            return Err(ApiError::invalid("n", format!("n: expected 1 to {}, found {n}", rules.max_n)));
        }
        Ok(Drawing {
            sampler: self.sampler(rules)?,
            stop: self.stops()?,
            max_tokens: self.max_tokens(rules)?,
            n,
            seed: self.seed.map_or_else(ids::seed, |seed| seed as u64),
            grammar: rules.grammar.clone(),
        })
    }

    fn max_tokens(&self, rules: &Rules) -> Result<usize, ApiError> {
        let fields = [
            ("max_completion_tokens", self.max_completion_tokens),
            ("max_output_tokens", self.max_output_tokens),
            ("max_tokens", self.max_tokens),
        ];
        match fields.into_iter().find_map(|(name, value)| Some((name, value?))) {
            Some((name, value)) if value > rules.max_tokens => {
                let max = rules.max_tokens;
                Err(ApiError::invalid(name, format!("{name}: this server allows at most {max}, found {value}")))
            }
            Some((_, value)) => Ok(value),
            None => Ok(rules.default_max_tokens.min(rules.max_tokens)),
        }
    }

    fn stops(&self) -> Result<Vec<String>, ApiError> {
        let stops = self.stop.as_ref().map_or(&[][..], |Stop(stops)| stops);
        let wrong = |reason: String| Err(ApiError::invalid("stop", format!("stop: {reason}")));
        if stops.len() > MAX_STOPS {
            return wrong(format!("expected at most {MAX_STOPS} texts, found {}", stops.len()));
        }
        if stops.iter().any(String::is_empty) {
            return wrong("a stop text is empty: expected at least one character".into());
        }
        if let Some(long) = stops.iter().find(|stop| stop.chars().nth(MAX_STOP_CHARS).is_some()) {
            return wrong(format!("expected at most {MAX_STOP_CHARS} characters, found {}", long.chars().count()));
        }
        Ok(stops.to_vec())
    }

    /// The sampler of the request. If it gives none of the usual options it gets RWKV's recommended ones. If it gives any, those that it
    /// leaves out are neutral, as clients of the OpenAI API expect.
    fn sampler(&self, rules: &Rules) -> Result<SamplerOptions, ApiError> {
        let usual = [self.temperature, self.top_p, self.presence_penalty, self.frequency_penalty];
        let base = match (rules.thinking, usual.iter().any(Option::is_some)) {
            (_, true) => SamplerOptions { order: SamplerOrder::Common, penalty_decay: 1.0, ..SamplerOptions::plain() },
            (Thinking::On(_), false) => SamplerOptions::thinking(),
            (Thinking::Off | Thinking::Fake | Thinking::FakeInline, false) => SamplerOptions::default(),
        };
        let base = match rules.grammar.is_some() {
            true => base.without_penalties(),
            false => base,
        };
        let sampler = SamplerOptions {
            order: match self.sampler_order {
                Some(Order::Rwkv) => SamplerOrder::Rwkv,
                Some(Order::Common) => SamplerOrder::Common,
                None => base.order,
            },
            temperature: within("temperature", self.temperature, 0.0, 2.0)?.unwrap_or(base.temperature),
            top_p: within("top_p", self.top_p, 0.0, 1.0)?.unwrap_or(base.top_p),
            top_k: self.top_k.unwrap_or(base.top_k),
            min_p: within("min_p", self.min_p, 0.0, 1.0)?.unwrap_or(base.min_p),
            typical_p: within("typical_p", self.typical_p, 0.0, 1.0)?.unwrap_or(base.typical_p),
            presence_penalty: within("presence_penalty", self.presence_penalty, -2.0, 2.0)?
                .unwrap_or(base.presence_penalty),
            frequency_penalty: within("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?
                .unwrap_or(base.frequency_penalty),
            repetition_penalty: within("repetition_penalty", self.repetition_penalty, 0.01, 100.0)?
                .unwrap_or(base.repetition_penalty),
            penalty_decay: within("penalty_decay", self.penalty_decay, 0.0, 1.0)?.unwrap_or(base.penalty_decay),
            logit_bias: self.biases(rules.n_vocab)?,
            seed: None,
        };
        sampler.validate(rules.n_vocab).map_err(anser::Error::from)?;
        Ok(sampler)
    }

    fn biases(&self, n_vocab: usize) -> Result<Vec<(u32, f32)>, ApiError> {
        let Some(biases) = &self.logit_bias else { return Ok(vec![]) };
        let wrong = |reason: String| ApiError::invalid("logit_bias", format!("logit_bias: {reason}"));
        if biases.len() > MAX_BIASES {
            return Err(wrong(format!("expected at most {MAX_BIASES} tokens, found {}", biases.len())));
        }
        let bias = |(id, &bias): (&String, &f32)| {
            let id = id.parse().ok().filter(|&id: &u32| (id as usize) < n_vocab);
            let id = id.ok_or_else(|| wrong(format!("expected token ids below {n_vocab} as names")))?;
            match (-100.0..=100.0).contains(&bias) {
                true => Ok((id, bias)),
                false => Err(wrong(format!("expected -100 to 100, found {bias} for token {id}"))),
            }
        };
        let mut biases = biases.iter().map(bias).collect::<Result<Vec<_>, _>>()?;
        biases.sort_unstable_by_key(|&(id, _)| id);
        Ok(biases)
    }
}

impl Drawing {
    /// The options of the text `choice`. `stop`: the stop texts that the engine looks for itself.
    pub(crate) fn options(&self, choice: usize, stop: Vec<String>) -> GenerateOptions {
        let seed = Some(self.seed.wrapping_add(choice as u64));
        GenerateOptions {
            sampler: SamplerOptions { seed, ..self.sampler.clone() },
            max_tokens: self.max_tokens,
            stop,
            grammar: self.grammar.clone(),
            ..GenerateOptions::default()
        }
    }
}

/// A number, if it is given and within its range.
fn within(name: &'static str, value: Option<f32>, least: f32, most: f32) -> Result<Option<f32>, ApiError> {
    match value {
        Some(found) if !(least..=most).contains(&found) => {
            Err(ApiError::invalid(name, format!("{name}: expected {least} to {most}, found {found}")))
        }
        value => Ok(value),
    }
}

impl<'de> Deserialize<'de> for Stop {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Stop, D::Error> {
        struct Texts;

        impl<'de> Visitor<'de> for Texts {
            type Value = Stop;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Stop, E> {
                Ok(Stop(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<Stop, A::Error> {
                let mut stops = vec![];
                while let Some(text) = texts.next_element()? {
                    stops.push(text);
                }
                Ok(Stop(stops))
            }
        }

        deserializer.deserialize_any(Texts)
    }
}

#[cfg(test)]
mod tests {
    use super::{Drawing, Rules, Sampling};
    use anser::chat::Thinking;
    use anser::{SamplerOptions, SamplerOrder};

    const RULES: Rules = Rules {
        max_n: 8,
        max_tokens: 100,
        default_max_tokens: 16,
        n_vocab: 1000,
        thinking: Thinking::Off,
        grammar: None,
    };

    fn check(json: &str) -> Result<Drawing, String> {
        let sampling: Sampling = serde_json::from_str(json).unwrap();
        sampling.check(&RULES).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn without_options_the_models_own_and_with_any_neutral_ones() {
        let drawing = check("{}").unwrap();
        assert_eq!(drawing.sampler, SamplerOptions::default());
        assert_eq!((drawing.n, drawing.max_tokens), (1, 16));
        let hot = check(r#"{"temperature": 1.5}"#).unwrap().sampler;
        assert_eq!((hot.temperature, hot.top_p, hot.presence_penalty, hot.frequency_penalty), (1.5, 1.0, 0.0, 0.0));
        assert_eq!(hot.order, SamplerOrder::Common);
        let kept = check(r#"{"top_k": 5, "penalty_decay": 0.9}"#).unwrap().sampler;
        assert_eq!(kept, SamplerOptions { top_k: 5, penalty_decay: 0.9, ..SamplerOptions::default() });
    }

    #[test]
    fn choices_have_seeds_of_their_own() {
        let drawing = check(r#"{"n": 3, "seed": -1}"#).unwrap();
        let seeds: Vec<_> = (0..3).map(|choice| drawing.options(choice, vec![]).sampler.seed).collect();
        assert_eq!(seeds, [Some(u64::MAX), Some(0), Some(1)]);
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        for (json, name) in [
            (r#"{"temperature": 2.5}"#, "temperature"),
            (r#"{"top_p": -1}"#, "top_p"),
            (r#"{"presence_penalty": 3}"#, "presence_penalty"),
            (r#"{"n": 0}"#, "n:"),
            (r#"{"n": 9}"#, "n:"),
            (r#"{"max_tokens": 101}"#, "max_tokens"),
            (r#"{"max_completion_tokens": 101}"#, "max_completion_tokens"),
            (r#"{"stop": [""]}"#, "stop"),
            (r#"{"logit_bias": {"fox": 1}}"#, "logit_bias"),
            (r#"{"logit_bias": {"1000": 1}}"#, "logit_bias"),
            (r#"{"logit_bias": {"3": 101}}"#, "logit_bias"),
            (r#"{"repetition_penalty": 0}"#, "repetition_penalty"),
        ] {
            let told = check(json).unwrap_err();
            assert!(told.starts_with(name), "{json}: {told}");
        }
        let many: Vec<String> = (0..17).map(|i| format!("\"s{i}\"")).collect();
        assert!(check(&format!("{{\"stop\": [{}]}}", many.join(","))).is_err());
        assert!(check(&format!("{{\"stop\": \"{}\"}}", "é".repeat(1001))).is_err());
        assert!(check(&format!("{{\"stop\": \"{}\"}}", "é".repeat(1000))).is_ok());
    }
}
