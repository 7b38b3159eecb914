//! The GPU executor against the CPU's plain loops. All tests share one device and its compiled kernels; without an
//! adapter they fail (on Debian, `apt-get install mesa-vulkan-drivers libvulkan1` brings a software one).

mod cache;
mod cases;
mod drawing;
mod errors;
mod halves;
mod harness;
mod memory;
mod models;
mod opening;
mod residency;
mod states;
mod switches;
mod tuning;
mod twins;
