//! Converted and quantized models against llama.cpp's, web-rwkv's converter's, and the models that they were made from.

mod convert;
mod errors;
mod harness;
mod imatrix;
mod mix;
mod quantize;
mod web_rwkv;
