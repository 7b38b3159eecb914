//! The library end to end, on the trained demo model and on broken files.

mod embeddings;
mod fixtures;
mod golden;
mod gpu;
mod loading;
mod malformed;
mod sessions;
