//! Refused steps, unknown slots, memory that is not there, and lost devices.

use crate::harness::{device, open};
use crate::models::mini;
use anser_gpu::{Gpu, GpuError, GpuOptions};
use anser_model::{Sequence, Step};

#[test]
fn a_refused_step_leaves_the_states_alone() {
    let plan = mini();
    let mut gpu = Gpu::new(plan.clone(), &device(), GpuOptions::default()).unwrap();
    let slot = gpu.create_state().unwrap();
    let one = [Sequence { slot, n_tokens: 1 }];
    gpu.step(&Step { tokens: &[3], sequences: &one, ..Step::default() }).unwrap();
    let before = gpu.read_state(slot).unwrap();
    let unknown = [Sequence { slot: 9, n_tokens: 1 }];
    let refused = [
        Step { tokens: &[300], sequences: &one, ..Step::default() },
        Step { tokens: &[], sequences: &[], ..Step::default() },
        Step { tokens: &[1, 2], sequences: &one, ..Step::default() },
        Step { tokens: &[1], sequences: &unknown, ..Step::default() },
        Step { tokens: &[1], sequences: &one, outputs: &[1], ..Step::default() },
    ];
    for step in refused {
        assert!(matches!(gpu.step(&step), Err(GpuError::Step(_))), "{step:?}");
        assert_eq!(gpu.read_state(slot).unwrap(), before);
    }
}

#[test]
fn slots_and_states_are_checked() {
    let plan = mini();
    let mut gpu = Gpu::new(plan.clone(), &device(), GpuOptions::default()).unwrap();
    let slot = gpu.create_state().unwrap();
    let zeros = vec![0.0; plan.state.len()];
    assert!(matches!(gpu.read_state(5), Err(GpuError::UnknownSlot { slot: 5 })));
    assert!(matches!(gpu.write_state(5, &zeros), Err(GpuError::UnknownSlot { slot: 5 })));
    assert!(matches!(gpu.copy_state(slot, 5), Err(GpuError::UnknownSlot { slot: 5 })));
    assert!(matches!(gpu.write_state(slot, &zeros[1..]), Err(GpuError::State(_))));
    let mut spoilt = zeros.clone();
    spoilt[7] = f32::NAN;
    assert!(matches!(gpu.write_state(slot, &spoilt), Err(GpuError::State(_))));
    assert_eq!(gpu.read_state(slot).unwrap(), zeros);
}

#[test]
fn what_cannot_be_bound_is_named() {
    let plan = mini();
    let options = GpuOptions { max_binding_n_bytes: Some(1 << 16), ..GpuOptions::default() };
    let mut gpu = Gpu::new(plan.clone(), &device(), options).unwrap();
    let slot = gpu.create_state().unwrap();
    let [max, _] = gpu.max_rows();
    let tokens = vec![1; max + 1];
    let sequences = [Sequence { slot, n_tokens: tokens.len() }];
    let error = gpu.step(&Step { tokens: &tokens, sequences: &sequences, ..Step::default() }).unwrap_err();
    assert_eq!(error, GpuError::StepTooLarge { what: "tokens", found: max + 1, max });
    let sequences = [Sequence { slot, n_tokens: max }];
    gpu.step(&Step { tokens: &tokens[1..], sequences: &sequences, ..Step::default() }).unwrap();

    let error = (0..100).find_map(|_| gpu.create_state().err()).expect("the states of 100 sequences take more");
    assert!(matches!(error, GpuError::Limit { .. }), "{error}");
}

#[test]
fn a_lost_device_is_an_error_and_another_one_works() {
    let plan = mini();
    let device = open();
    let mut gpu = Gpu::new(plan.clone(), &device, GpuOptions::default()).unwrap();
    let slot = gpu.create_state().unwrap();
    let sequences = [Sequence { slot, n_tokens: 1 }];
    let step = Step { tokens: &[3], sequences: &sequences, reads: &[plan.residuals[0]], ..Step::default() };
    gpu.step(&step).unwrap();
    device.destroy();
    assert!(matches!(gpu.step(&step), Err(GpuError::Lost { .. })));
    assert!(matches!(gpu.read_state(slot), Err(GpuError::Lost { .. })));
    assert!(matches!(gpu.write_state(slot, &vec![0.0; plan.state.len()]), Err(GpuError::Lost { .. })));
    assert!(matches!(Gpu::new(plan.clone(), &device, GpuOptions::default()), Err(GpuError::Lost { .. })));

    let mut gpu = Gpu::new(plan.clone(), &open(), GpuOptions::default()).unwrap();
    assert_eq!(gpu.create_state().unwrap(), slot);
    gpu.step(&step).unwrap();
}
