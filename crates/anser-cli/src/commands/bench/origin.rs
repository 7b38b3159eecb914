//! The origin of a result: build, time, device and model file. A later comparison needs it.

use crate::commands::inspect::dtype_uses;
use crate::printable::printable;
use crate::version::processor_name;
use anser::{GpuDevice, Model};
use serde::Serialize;
use std::time::{SystemTime, UNIX_EPOCH};

/// The origin of a result.
#[derive(Default, Serialize)]
pub(super) struct Origin {
    pub(super) version: &'static str,
    /// The commit that the command was built from; `build.rs` says how it is found.
    pub(super) commit: &'static str,
    /// The time at which the measurement began, in UTC, in the format of RFC 3339.
    date: String,
    /// The name of the GPU, or of the processor where the system tells it.
    device_name: Option<String>,
    /// The interface to the GPU, `vulkan` for example; none for the processor.
    backend: Option<&'static str>,
    /// Name and version of the GPU's driver; none for the processor.
    driver: Option<String>,
    /// Bytes of all files of the model.
    model_n_bytes: u64,
    /// The storage types of its tensors, the one with the most bytes first.
    dtype: String,
}

impl Origin {
    /// The origin of a measurement of `model`, which runs on `gpu` or on the processor, and which began at `began`.
    pub(super) fn of(model: &Model, gpu: Option<&GpuDevice>, began: SystemTime) -> Origin {
        let report = gpu.map(GpuDevice::report);
        let dtypes: Vec<String> = dtype_uses(model.file()).into_iter().map(|row| row.dtype).collect();
        Origin {
            version: env!("CARGO_PKG_VERSION"),
            commit: env!("ANSER_COMMIT"),
            date: rfc3339(began.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())),
            device_name: report.map_or_else(processor_name, |report| Some(printable(&report.name))),
            backend: report.map(|report| report.backend),
            driver: report.map(|report| printable(&report.driver)),
            model_n_bytes: model.file().n_bytes(),
            dtype: printable(&dtypes.join(", ")),
        }
    }
}

/// The point in time `seconds` after 1970 began, in UTC.
fn rfc3339(seconds: u64) -> String {
    let is_leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let (mut days, mut year) = (seconds / 86400, 1970);
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut month = 1;
    for n_days in [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < n_days {
            break;
        }
        days -= n_days;
        month += 1;
    }
    let [hour, minute, second] = [seconds / 3600 % 24, seconds / 60 % 60, seconds % 60];
    format!("{year}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", days + 1)
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    /// Dates by `date -u -d @SECONDS +%FT%TZ`.
    #[test]
    fn dates_know_leap_years() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_735_689_600, "2025-01-01T00:00:00Z"),
            (1_796_000_461, "2026-11-30T01:01:01Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), date);
        }
    }
}
