//! Which adapter to run on.

use crate::device::{AdapterReport, DeviceKind};
use crate::error::GpuError;
use std::fmt;
use std::str::FromStr;

/// A wish for a device, written `auto`, `gpu`, `gpu:NUMBER` or `gpu:NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The best hardware GPU. If there is none, or the model does not fit, the caller falls back to the CPU.
    #[default]
    Auto,
    /// The best hardware GPU, or an error.
    Gpu,
    /// The adapter of this number in [`crate::Device::list`]; software is taken too.
    Number(usize),
    /// The first adapter whose name contains this text, in any case; software is taken too.
    Name(String),
}

impl FromStr for DeviceChoice {
    type Err = GpuError;

    fn from_str(text: &str) -> Result<DeviceChoice, GpuError> {
        let malformed = || GpuError::MalformedChoice { text: text.into() };
        match text.split_once(':') {
            None if text == "auto" => Ok(DeviceChoice::Auto),
            None if text == "gpu" => Ok(DeviceChoice::Gpu),
            Some(("gpu", "")) | None => Err(malformed()),
            Some(("gpu", which)) => match which.parse() {
                Ok(number) => Ok(DeviceChoice::Number(number)),
                Err(_) => Ok(DeviceChoice::Name(which.into())),
            },
            Some(_) => Err(malformed()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Gpu => f.write_str("gpu"),
            DeviceChoice::Number(number) => write!(f, "gpu:{number}"),
            DeviceChoice::Name(name) => write!(f, "gpu:{name}"),
        }
    }
}

impl DeviceChoice {
    /// The number of the adapter that fulfils the wish, and one line that says why it was chosen.
    ///
    /// # Errors
    /// If none does.
    pub fn select(&self, adapters: &[AdapterReport]) -> Result<(usize, String), GpuError> {
        if adapters.is_empty() {
            return Err(GpuError::NoAdapter { backends: BACKENDS });
        }
        let available = || {
            let each = adapters.iter().map(|a| format!("gpu:{} {} ({})", a.number, a.name, a.kind.name()));
            each.collect::<Vec<_>>().join(", ")
        };
        let unknown = || GpuError::UnknownDevice { wanted: self.to_string(), available: available() };
        match self {
            DeviceChoice::Auto | DeviceChoice::Gpu => {
                let hardware = adapters.iter().filter(|a| a.kind != DeviceKind::Software);
                let best = hardware.max_by_key(|a| (a.kind.rank(), std::cmp::Reverse(a.number)));
                let best = best.ok_or_else(|| GpuError::OnlySoftware { available: available() })?;
                let of = match adapters.len() {
                    1 => "the only adapter".to_string(),
                    n => format!("the best of {n} adapters"),
                };
                Ok((best.number, format!("{} ({}, {}): {of}", best.name, best.kind.name(), best.backend)))
            }
            DeviceChoice::Number(number) => {
                let adapter = adapters.get(*number).ok_or_else(unknown)?;
                Ok((
                    *number,
                    format!("{} ({}, {}): asked for by number", adapter.name, adapter.kind.name(), adapter.backend),
                ))
            }
            DeviceChoice::Name(name) => {
                let name = name.to_lowercase();
                let found = adapters.iter().find(|a| a.name.to_lowercase().contains(&name)).ok_or_else(unknown)?;
                Ok((
                    found.number,
                    format!("{} ({}, {}): asked for by name", found.name, found.kind.name(), found.backend),
                ))
            }
        }
    }
}

/// The graphics interfaces of this platform that adapters are looked for in.
const BACKENDS: &str = if cfg!(target_arch = "wasm32") {
    "WebGPU"
} else if cfg!(target_vendor = "apple") {
    "Metal"
} else if cfg!(windows) {
    "Vulkan or Direct3D 12"
} else {
    "Vulkan"
};

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(number: usize, name: &str, kind: DeviceKind) -> AdapterReport {
        AdapterReport { number, name: name.into(), kind, ..AdapterReport::default() }
    }

    fn machine() -> Vec<AdapterReport> {
        vec![
            adapter(0, "llvmpipe", DeviceKind::Software),
            adapter(1, "Intel UHD", DeviceKind::Integrated),
            adapter(2, "NVIDIA H100", DeviceKind::Discrete),
            adapter(3, "NVIDIA T4", DeviceKind::Discrete),
        ]
    }

    #[test]
    fn text_round_trips() {
        for text in ["auto", "gpu", "gpu:2", "gpu:h100", "gpu:with:colon"] {
            assert_eq!(text.parse::<DeviceChoice>().map(|c| c.to_string()), Ok(text.to_string()));
        }
        for text in ["", "cpu", "gpu:", "GPU", "vulkan:0"] {
            assert_eq!(text.parse::<DeviceChoice>(), Err(GpuError::MalformedChoice { text: text.into() }));
        }
    }

    #[test]
    fn hardware_is_preferred_and_software_only_taken_when_named() {
        let select = |text: &str, adapters: &[AdapterReport]| {
            text.parse::<DeviceChoice>().and_then(|c| c.select(adapters)).map(|(number, _)| number)
        };
        let machine = machine();
        assert_eq!(select("auto", &machine), Ok(2), "the first of two equally good");
        assert_eq!(select("gpu", &machine[..2]), Ok(1));
        assert_eq!(select("gpu:0", &machine), Ok(0));
        assert_eq!(select("gpu:LLVM", &machine), Ok(0));
        assert_eq!(select("gpu:t4", &machine), Ok(3));
        assert!(matches!(select("auto", &machine[..1]), Err(GpuError::OnlySoftware { .. })));
        assert!(matches!(select("gpu:4", &machine), Err(GpuError::UnknownDevice { .. })));
        assert!(matches!(select("gpu:radeon", &machine), Err(GpuError::UnknownDevice { .. })));
        assert!(matches!(select("auto", &[]), Err(GpuError::NoAdapter { .. })));
    }

    #[test]
    fn the_reason_names_the_adapter() {
        let (_, reason) = DeviceChoice::Auto.select(&machine()).expect("there is a GPU");
        assert!(reason.contains("NVIDIA H100") && reason.contains("best of 4"), "{reason}");
    }
}
