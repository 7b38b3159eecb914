//! From a plan to dispatches: which operations one kernel computes together ([`rule`], [`fuse`]), in which order and in which
//! memory ([`schedule`]), and what the kernels bind ([`lowering`], [`dispatch`]).
//!
//! All of this is plain data. It knows no kernel: the rules are given to it by `kernels/`.

pub(crate) mod choices;
pub(crate) mod dispatch;
pub(crate) mod fuse;
pub(crate) mod graph;
pub(crate) mod lowering;
pub(crate) mod rule;
pub(crate) mod schedule;
pub(crate) mod target;
pub(crate) mod waves;
