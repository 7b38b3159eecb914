//! Encoding and decoding speed on one core: `cargo bench -p anser-tokenizer`.
//!
//! `ANSER_BENCH_TEXTS` names a folder with `english.txt`, `chinese.txt`, `code.txt` and `email.txt`. Without it the
//! texts are made here, always the same: words of the vocabulary at random, and this crate's sources, line by line in
//! random order. Real texts repeat themselves more, so the two kinds of figures do not compare.

use std::hint::black_box;
use std::path::Path;
use std::{env, fs};

use anser_tokenizer::Tokenizer;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};

/// Bytes of each long text.
const TEXT_LEN: usize = 1_000_000;

const SOURCES: [&str; 6] = [
    include_str!("../src/encode.rs"),
    include_str!("../src/index.rs"),
    include_str!("../src/index_build.rs"),
    include_str!("../src/tokenizer.rs"),
    include_str!("../src/utf8_stream.rs"),
    include_str!("../src/vocabulary.rs"),
];

/// 1,000 characters.
const EMAIL: &str = "\
Dear Ingrid,

It was good to see you at the fair in Hanover last week. As promised, here is what we agreed on for the autumn
order, so that you can check it before the board meets.

1. Delivery: 340 cartons by 9 September, the remaining 160 by 21 October 2025.
2. Price: EUR 18.75 per carton, net, freight included; two percent discount within 10 days.
3. Labels: the new design (file \"label_v4.pdf\"), in German, French and Dutch.

Could you tell me who in your team signs for customs? Our forwarder, Petersen & Sons, needs a name and a telephone
number no later than Wednesday, otherwise the first lorry misses the ferry. They can be reached under
+49 511 555-0142 or at dispatch@example.org.

One more question: the samples from batch B-2207 arrived with two broken lids. Shall I send you photographs, or would
you rather take a look at them yourself when you visit us on the 30th? There will be cake and good coffee.

Kind regards from a rainy harbour,
Oluwaseun Brandt
Purchasing, Nordlicht GmbH
";

/// The named text from the folder, or the one that `make` gives.
fn text(name: &str, make: impl Fn() -> String) -> Vec<u8> {
    match env::var_os("ANSER_BENCH_TEXTS") {
        Some(folder) => fs::read(Path::new(&folder).join(name).with_extension("txt")).expect("a readable text"),
        None => make().into_bytes(),
    }
}

/// At least [`TEXT_LEN`] bytes of pieces picked at random (xorshift64, fixed seed).
fn shuffled<'a>(pieces: &[&'a str]) -> String {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut pick = || -> &'a str {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        pieces[(state % pieces.len() as u64) as usize]
    };
    let mut text = String::new();
    while text.len() < TEXT_LEN {
        text += pick();
    }
    text
}

/// Text of the World tokens that satisfy a condition.
fn words(condition: impl Fn(&str) -> bool) -> String {
    let world = Tokenizer::world();
    let tokens = (0..world.vocab_size() as u32).filter_map(|id| str::from_utf8(world.token_bytes(id)?).ok());
    shuffled(&tokens.filter(|token| condition(token)).collect::<Vec<_>>())
}

fn is_english(token: &str) -> bool {
    token.strip_prefix(' ').is_some_and(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase()))
}

fn is_chinese(token: &str) -> bool {
    !token.is_empty() && token.chars().all(|char| ('\u{4e00}'..'\u{a000}').contains(&char))
}

/// The ids of a text, checked to decode to it.
fn checked_ids(world: &Tokenizer, text: &[u8]) -> Vec<u32> {
    let ids = world.encode(text);
    assert!(world.decode(&ids).is_ok_and(|decoded| decoded == text));
    ids
}

fn bench_long(group: &mut BenchmarkGroup<'_, WallTime>, world: &Tokenizer, name: &str, text: &[u8]) {
    let mut ids = checked_ids(world, text);
    println!("{name}: {} bytes, {} tokens", text.len(), ids.len());
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function(format!("encode/{name}"), |bencher| {
        bencher.iter(|| {
            ids.clear();
            world.encode_into(black_box(text), &mut ids);
        });
    });
    group.bench_function(format!("decode/{name}"), |bencher| bencher.iter(|| world.decode(black_box(&ids))));
}

fn bench(criterion: &mut Criterion) {
    let world = Tokenizer::world();
    let mut group = criterion.benchmark_group("world");
    bench_long(&mut group, &world, "english", &text("english", || words(is_english)));
    bench_long(&mut group, &world, "chinese", &text("chinese", || words(is_chinese)));
    let lines: Vec<_> = SOURCES.iter().flat_map(|source| source.split_inclusive('\n')).collect();
    bench_long(&mut group, &world, "code", &text("code", || shuffled(&lines)));

    let email = text("email", || EMAIL.to_owned());
    println!("email: {} bytes, {} tokens", email.len(), checked_ids(&world, &email).len());
    group.throughput(Throughput::Bytes(email.len() as u64));
    group.bench_function("encode/email", |bencher| bencher.iter(|| Tokenizer::world().encode(black_box(&email))));
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
