//! Where a model runs.

use crate::error::Error;
use crate::model::Options;
use anser_cpu::{Cpu, SlotId};
use anser_model::{Plan, Step};
use std::str::FromStr;
use std::sync::Arc;

/// Where to run a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Device {
    /// The best there is.
    #[default]
    Auto,
    /// The processor.
    Cpu,
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Device, Error> {
        match text {
            "auto" => Ok(Device::Auto),
            "cpu" => Ok(Device::Cpu),
            _ if text == "gpu" || text.starts_with("gpu:") => Err(Error::Device {
                device: text.into(),
                reason: "this build runs on the CPU only; use --device cpu".into(),
            }),
            _ => Err(Error::Device { device: text.into(), reason: "expected auto, cpu or gpu".into() }),
        }
    }
}

/// The executor that runs a model's plan.
pub(crate) enum Executor {
    Cpu(Cpu),
}

impl Executor {
    /// Sets up an executor for `plan`, and says which and why.
    pub(crate) fn new(plan: &Arc<Plan>, options: &Options) -> Result<(Executor, String), Error> {
        let cpu_options = anser_cpu::Options { n_threads: options.n_threads, ..Default::default() };
        match options.device {
            Device::Auto | Device::Cpu => {
                let cpu = Cpu::new(plan.clone(), cpu_options)?;
                let device = format!("CPU, {} threads", cpu.n_threads());
                Ok((Executor::Cpu(cpu), device))
            }
        }
    }

    /// How many tokens to give to one step of a long prompt: enough to use a dequantized weight many times, few enough
    /// for activations to stay small.
    pub(crate) fn preferred_step_len(&self) -> usize {
        match self {
            Executor::Cpu(_) => 128,
        }
    }

    pub(crate) fn create_state(&mut self) -> Result<SlotId, Error> {
        match self {
            Executor::Cpu(cpu) => Ok(cpu.create_state()),
        }
    }

    pub(crate) fn drop_state(&mut self, slot: SlotId) {
        match self {
            Executor::Cpu(cpu) => cpu.drop_state(slot),
        }
    }

    /// The state in `slot`, in the order of the plan's layout.
    pub(crate) fn read_state(&mut self, slot: SlotId) -> Result<Vec<f32>, Error> {
        match self {
            Executor::Cpu(cpu) => Ok(cpu.state(slot).unwrap_or_default().to_vec()),
        }
    }

    /// Overwrites the state in `slot`; `data` has the layout's length.
    pub(crate) fn write_state(&mut self, slot: SlotId, data: &[f32]) -> Result<(), Error> {
        match self {
            Executor::Cpu(cpu) => {
                if let Some(state) = cpu.state_mut(slot) {
                    state.copy_from_slice(data);
                }
                Ok(())
            }
        }
    }

    /// Copies the state in `from` over that in `to`.
    pub(crate) fn copy_state(&mut self, from: SlotId, to: SlotId) -> Result<(), Error> {
        let state = self.read_state(from)?;
        self.write_state(to, &state)
    }

    pub(crate) fn step(&mut self, step: &Step) -> Result<Vec<Vec<f32>>, Error> {
        match self {
            Executor::Cpu(cpu) => Ok(cpu.step(step)?),
        }
    }
}
