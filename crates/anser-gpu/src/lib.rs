//! Runs an RWKV [`Plan`](anser_model::Plan) on a GPU, through wgpu.

#[allow(dead_code)] // until the first lowering uses it
mod kernels;
