//! Kernels of the operations that only RWKV-4 to RWKV-6 and RWKV-7a have: plain ones, one invocation per element or per row of
//! the state.

use super::Lowering;
use crate::kernels::{Access, Binding, Dispatch, Extent, KernelSpec, wgsl};
use Access::{Read, ReadWrite};
use Binding::{Sequences, State, Tokens, Value, Vector};
use anser_model::{Decay, StateRef, ValueId, WeightId};

/// Channels of a workgroup of RWKV-4's recurrence.
const CHANNELS: u32 = 64;

impl Lowering<'_> {
    /// x_prev of a token shift.
    pub(super) fn previous(&self, x: ValueId, state: StateRef, out: ValueId) -> Dispatch {
        let kernel = KernelSpec::new("previous", vec![wgsl!("step.wgsl"), wgsl!("older/previous.wgsl")])
            .constant("N_COLS", self.n_cols(out))
            .access(&[Read, Read, Read, ReadWrite]);
        kernel.dispatch(vec![Tokens, Value(x), State(state), Value(out)], self.elementwise(out))
    }

    /// A mix of every token's own is computed as a value residual is.
    pub(super) fn mix(&self, [x, x_prev, mix]: [ValueId; 3], out: ValueId) -> Dispatch {
        let kernel = KernelSpec::new("value_residual", vec![wgsl!("value_residual.wgsl")])
            .constant("N_COLS", self.n_cols(out))
            .access(&[Read, Read, Read, ReadWrite]);
        kernel.dispatch(vec![Value(x), Value(x_prev), Value(mix), Value(out)], self.elementwise(out))
    }

    pub(super) fn wkv4(&self, [k, v]: [ValueId; 2], [w, u]: [WeightId; 2], state: StateRef, out: ValueId) -> Dispatch {
        let kernel = KernelSpec::new("wkv4", vec![wgsl!("step.wgsl"), wgsl!("older/wkv4.wgsl")])
            .constant("N_COLS", self.n_cols(out))
            .constant("WORKGROUP", f64::from(CHANNELS))
            .access(&[ReadWrite, Read, ReadWrite, Read, Read, Read, Read]);
        let n_parts = (self.plan.value(out).n_cols as u32).div_ceil(CHANNELS);
        let bindings = vec![State(state), Sequences, Value(out), Value(k), Value(v), Vector(w), Vector(u)];
        kernel.dispatch(bindings, [Extent::Fixed(n_parts), Extent::Fixed(1), Extent::Sequences])
    }

    pub(super) fn wkv6(
        &self,
        [r, k, v]: [ValueId; 3],
        (w, u): (Decay, WeightId),
        state: StateRef,
        head_size: usize,
        out: ValueId,
    ) -> Dispatch {
        let (w, is_of_token) = match w {
            Decay::OfToken(w) => (Value(w), 1.0),
            Decay::Fixed(w) => (Vector(w), 0.0),
        };
        let workgroup = (head_size.next_power_of_two() as u32).clamp(32, 256).min(self.features.max_workgroup_len);
        let kernel = KernelSpec::new("wkv6", vec![wgsl!("step.wgsl"), wgsl!("older/wkv6.wgsl")])
            .constant("N_COLS", self.n_cols(out))
            .constant("HEAD_SIZE", head_size as f64)
            .constant("DECAY_OF_TOKEN", is_of_token)
            .constant("WORKGROUP", f64::from(workgroup))
            .access(&[ReadWrite, Read, ReadWrite, Read, Read, Read, Read, Read]);
        let n_heads = (self.plan.value(out).n_cols / head_size) as u32;
        let bindings = vec![State(state), Sequences, Value(out), Value(r), Value(k), Value(v), w, Vector(u)];
        kernel.dispatch(bindings, [Extent::Fixed(n_heads), Extent::Fixed(1), Extent::Sequences])
    }

    pub(super) fn norm_gate(
        &self,
        y: ValueId,
        g: Option<ValueId>,
        [weight, bias]: [WeightId; 2],
        (eps, head_size): (f32, usize),
        out: ValueId,
    ) -> Dispatch {
        let kernel = self
            .reducing("norm_gate", wgsl!("older/norm_gate.wgsl"), head_size)
            .constant("N_COLS", self.n_cols(out))
            .constant("HEAD_SIZE", head_size as f64)
            .constant("EPS", f64::from(eps))
            .constant("HAS_GATE", f64::from(u8::from(g.is_some())))
            .access(&[Read, Read, Read, Read, ReadWrite]);
        let bindings = vec![Value(y), Value(g.unwrap_or(y)), Vector(weight), Vector(bias), Value(out)];
        kernel.dispatch(bindings, self.heads(out, head_size))
    }

    pub(super) fn gate(
        &self,
        [gate, x]: [ValueId; 2],
        factor: f32,
        residual: Option<ValueId>,
        out: ValueId,
    ) -> Dispatch {
        let kernel = KernelSpec::new("gate", vec![wgsl!("older/gate.wgsl")])
            .constant("N_COLS", self.n_cols(out))
            .constant("FACTOR", f64::from(factor))
            .constant("HAS_RESIDUAL", f64::from(u8::from(residual.is_some())))
            .access(&[Read, Read, Read, ReadWrite]);
        let bindings = vec![Value(gate), Value(x), Value(residual.unwrap_or(x)), Value(out)];
        kernel.dispatch(bindings, self.elementwise(out))
    }

    pub(super) fn token_matrix(&self, x: ValueId, matrix: ValueId, out: ValueId) -> Dispatch {
        let kernel = KernelSpec::new("token_matrix", vec![wgsl!("older/token_matrix.wgsl")])
            .constant("N_COLS", self.n_cols(out))
            .access(&[Read, Read, ReadWrite]);
        kernel.dispatch(vec![Value(x), Value(matrix), Value(out)], self.elementwise(out))
    }
}
