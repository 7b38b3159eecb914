//! The library end to end, on the trained demo model and on broken files.

mod divergence;
mod drafts;
mod embeddings;
mod files;
mod fixtures;
mod formats;
mod generations;
mod golden;
mod gpu;
mod grammars;
mod heads;
mod input_squares;
mod loading;
mod lookup;
mod lora;
mod malformed;
mod rows;
mod sessions;
mod states;
mod waiting;
