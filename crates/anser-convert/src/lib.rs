//! Writes RWKV models in the layouts of other programs, and quantizes them.
//!
//! [`Output`] is a file that is laid out: its names, shapes, types and metadata are known, and where the elements come from. It
//! is made from any model that Anser reads, as GGUF ([`Output::gguf`]) or as a file of web-rwkv's ([`Output::web_rwkv`]), or
//! from a GGUF file as it is ([`Output::same_gguf`]). [`Output::quantize`] then gives its tensors the types that llama-quantize gives them,
//! with an [`ImportanceMatrix`] or without, and [`Output::write`] writes it as a stream: rows are read, converted on all
//! cores and written, so that memory holds some megabytes for each core, whatever the size of the model. The bytes depend on the model and
//! the options alone.
//!
//! | module | what is in it |
//! |---|---|
//! | `parts` | the tensors of a model of RWKV-4 to RWKV-7, by BlinkDL's names |
//! | `gguf`, `header`, `vocabulary` | how llama.cpp's converter names, stacks and describes them |
//! | `web_rwkv` | how web-rwkv's converter does |
//! | `file_type`, `quantize` | which type each tensor gets |
//! | `imatrix` | importance matrices, in both of their forms |
//! | `trial`, `mix` | errors of matrices in each type, and the mix of types that costs least in a number of bytes |
//! | `output`, `stream` | a file that is laid out, and how it is written |

mod error;
mod file_type;
mod gguf;
mod header;
mod imatrix;
mod mix;
mod output;
mod parts;
mod pattern;
mod quantize;
mod stream;
mod trial;
mod vocabulary;
mod web_rwkv;

pub use error::ConvertError;
pub use file_type::FileType;
pub use gguf::GgufOptions;
pub use header::{Architecture, Header, Rwkv6Ranks, Rwkv7Ranks};
pub use imatrix::ImportanceMatrix;
pub use mix::{Candidate, bounds, choose, choose_for_cost};
pub use output::{FloatType, Form, Output, OutputTensor};
pub use pattern::TypeRule;
pub use quantize::QuantizeOptions;
pub use trial::TensorErrors;
pub use vocabulary::Vocabulary;
