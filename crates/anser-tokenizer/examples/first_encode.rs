//! Time from the start of a process to its first encoded prompt: `cargo run --release -p anser-tokenizer --example
//! first_encode`. Starts itself many times, with and without encoding, and prints the medians of whole process lives.

use std::error::Error;
use std::process::Command;
use std::time::Instant;
use std::{env, io};

use anser_tokenizer::Tokenizer;

const PROMPT: &[u8] = "User: What is the capital of France?\n\nAssistant:".as_bytes();
const N_RUNS: usize = 101;

fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1).as_deref() {
        Some("idle") => {}
        Some("encode") => {
            let start = Instant::now();
            let n_tokens = Tokenizer::world().encode(PROMPT).len();
            println!("{n_tokens} {}", start.elapsed().as_nanos());
        }
        _ => {
            let idle_us = median((0..N_RUNS).map(|_| Ok(child("idle")?.0)))?;
            let life_us = median((0..N_RUNS).map(|_| Ok(child("encode")?.0)))?;
            let within_us = median((0..N_RUNS).map(|_| {
                let (_, output) = child("encode")?;
                let elapsed_ns = output.split_whitespace().nth(1).and_then(|field| field.parse::<f64>().ok());
                Ok(elapsed_ns.ok_or_else(|| io::Error::other("no figures from the child"))? / 1e3)
            }))?;
            println!("process that does nothing:         {idle_us:.0} µs");
            println!("process that encodes a prompt:     {life_us:.0} µs");
            println!("within it, world() and the encode: {within_us:.0} µs");
        }
    }
    Ok(())
}

/// Runs this program with an argument to its end: its life in microseconds, and its output.
fn child(argument: &str) -> io::Result<(f64, String)> {
    let start = Instant::now();
    let output = Command::new(env::current_exe()?).arg(argument).output()?;
    let life_us = start.elapsed().as_secs_f64() * 1e6;
    Ok((life_us, String::from_utf8_lossy(&output.stdout).into_owned()))
}

fn median(values: impl Iterator<Item = io::Result<f64>>) -> io::Result<f64> {
    let mut values = values.collect::<io::Result<Vec<_>>>()?;
    values.sort_by(f64::total_cmp);
    Ok(values[values.len() / 2])
}
