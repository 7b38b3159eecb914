//! Compiles grammars for one vocabulary, and keeps the latest ones.

use super::constraint::Constraint;
use super::source::Grammar;
use crate::error::Error;
use anser_tokenizer::Tokenizer;
use llguidance::api::ParserLimits;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};
use llguidance::{Matcher, ParserFactory};
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// The most compiled grammars that are kept.
const MAX_KEPT: NonZeroUsize = NonZeroUsize::new(32).unwrap();

/// The stack of the thread that compiles, in bytes: rules that refer to one another are followed by recursion. The system gives
/// memory for the part that is used.
const STACK_N_BYTES: usize = 64 << 20;

/// Compiles grammars for one vocabulary.
pub(crate) struct Compiler {
    factory: ParserFactory,
    /// The id that stands for the end of a text in masks: the first one that the vocabulary does not have.
    end: u32,
    /// Compiled grammars at the beginning of a text, with the first mask computed.
    kept: Mutex<LruCache<Grammar, Matcher>>,
}

impl std::fmt::Debug for Compiler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiler").field("end", &self.end).finish_non_exhaustive()
    }
}

/// A vocabulary, as `llguidance` takes it.
struct Vocabulary {
    trie: TokTrie,
    tokenizer: Tokenizer,
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, text: &[u8]) -> Vec<TokenId> {
        self.tokenizer.encode(text)
    }
}

impl Compiler {
    /// An index of all tokens; takes about 0.5 s for 65,536 of them. Errors: the reason, in words.
    pub(crate) fn new(tokenizer: &Tokenizer) -> Result<Compiler, String> {
        let end = tokenizer.vocab_size() as u32;
        let token = |id| tokenizer.token_bytes(id).unwrap_or_default().to_vec();
        // A token that begins with the byte FF is a special one, which no text has.
        let tokens: Vec<Vec<u8>> = (0..end).map(token).chain([b"\xff<end>".to_vec()]).collect();
        let trie = TokTrie::from(&TokRxInfo::new(end + 1, end), &tokens);
        let vocabulary: TokEnv = Arc::new(Vocabulary { trie, tokenizer: tokenizer.clone() });
        let factory = ParserFactory::new(&vocabulary, InferenceCapabilities::default(), &slices());
        let mut factory = factory.map_err(|error| format!("the vocabulary cannot be indexed: {error:#}"))?;
        *factory.limits_mut() = limits();
        factory.quiet();
        Ok(Compiler { factory, end, kept: Mutex::new(LruCache::new(MAX_KEPT)) })
    }

    /// Compiles a grammar, unless that is done.
    pub(super) fn compile(&self, grammar: &Grammar) -> Result<(), Error> {
        self.with_compiled(grammar, |_| ())
    }

    /// What a text of `grammar` follows, from its beginning.
    pub(super) fn constraint(&self, grammar: &Grammar, stop_tokens: &[u32]) -> Result<Constraint, Error> {
        let matcher = self.with_compiled(grammar, Matcher::deep_clone)?;
        Ok(Constraint::new(matcher, grammar.kind(), self.end, stop_tokens))
    }

    fn with_compiled<T>(&self, grammar: &Grammar, then: impl FnOnce(&Matcher) -> T) -> Result<T, Error> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(matcher) = kept().get(grammar) {
            return Ok(then(matcher));
        }
        // Other grammars can be used while this one is being compiled.
        let matcher = self.compile_anew(grammar)?;
        let result = then(&matcher);
        kept().put(grammar.clone(), matcher);
        Ok(result)
    }

    fn compile_anew(&self, grammar: &Grammar) -> Result<Matcher, Error> {
        let refuse = |reason| Error::Grammar { kind: grammar.kind(), reason };
        let compile = || {
            let parsed = grammar.to_compile().map_err(|error| refuse(error.to_string()))?;
            let parser = self.factory.create_parser(parsed);
            let parser = parser.map_err(|error| refuse(reason_of(&format!("{error:#}"))))?;
            let mut matcher = Matcher::new(Ok(parser));
            // The first mask finds grammars that allow no text, and fills tables that all texts of the grammar begin with.
            matcher.compute_mask_or_eos().map_err(|error| refuse(reason_of(&error.to_string())))?;
            Ok(matcher)
        };
        thread::scope(|scope| {
            let builder = thread::Builder::new().name("anser-grammar".into()).stack_size(STACK_N_BYTES);
            let thread = builder.spawn_scoped(scope, compile);
            let thread = thread.map_err(|error| refuse(format!("the system starts no thread for it: {error}")))?;
            thread.join().unwrap_or_else(|_| Err(refuse("compiling it panicked".into())))
        })
    }
}

/// Regular expressions, each for a part of the vocabulary: where a grammar allows all texts of one, it allows the tokens of this part without a
/// look at them. The library's own are the inside of JSON strings; the others are for repeated classes of characters, whose masks would take
/// 0.3 to 0.5 ms each (65,536 tokens) and take 0.03.
fn slices() -> Vec<String> {
    let classes = [r"[a-z ]{1,16}", r"[A-Za-z ]{1,16}", r"[\x20-\x7E]{1,16}"];
    SlicedBiasComputer::general_slices().into_iter().chain(classes.map(String::from)).collect()
}

/// Limits of the work for one grammar. Lexer fuel is counted in nodes of regular expressions: some 50,000 take a millisecond when a
/// grammar is compiled, and 14,000 when a mask is computed. A lexer state takes 1 to 2 kB.
fn limits() -> ParserLimits {
    ParserLimits {
        initial_lexer_fuel: 200_000,
        step_lexer_fuel: 200_000,
        max_lexer_states: 20_000,
        max_grammar_size: 50_000,
        verbose_errors: false,
        ..ParserLimits::default()
    }
}

/// A reason of `llguidance` in words of the caller's grammar.
pub(super) fn reason_of(message: &str) -> String {
    const TOO_MUCH: [&str; 6] = ["too many", "Too many", "too big", "fuel", "limits.", "TooComplex"];

    if message.contains("NoExtensionBias") {
        return "it allows no text, or none of whole tokens".into();
    }
    if message.contains("oneOf constraints are not supported") {
        return "oneOf: alternatives that may hold at the same time cannot be told apart; anyOf allows them".into();
    }
    if TOO_MUCH.iter().any(|part| message.contains(part)) {
        return format!("it takes too much work; make it smaller ({})", one_line(message));
    }
    one_line(message)
}

/// A message in one line: the first one, and the fault of a regular expression, which stands below it. Other lines show the place in
/// the grammar, or a backtrace.
fn one_line(message: &str) -> String {
    const MAX_N_CHARS: usize = 300;

    let first = message.lines().next().unwrap_or_default().trim_end();
    // What stands before repeats the expression.
    let first = first.find("regex parse error:").map_or(first, |at| &first[at..]);
    let line = match message.lines().find_map(|line| line.strip_prefix("error: ")) {
        Some(fault) => format!("{first} {fault}"),
        None => first.to_owned(),
    };
    match line.char_indices().nth(MAX_N_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
