//! How matrices lie on the device: the storage types that there are kernels for, and what becomes of the others.

mod layout;
pub(crate) mod repack;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use layout::{DeviceLayout, PANEL_COLS, PANEL_LEN, PIECE_LEN, is_f16, is_quantized, layout, layout_of};
pub(crate) use table::{DeviceType, kept};
