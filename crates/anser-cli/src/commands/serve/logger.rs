//! The log of a server, on standard error.

use crate::printable::printable;
use crate::term::note;
use log::{LevelFilter, Log, Metadata, Record};
use std::time::{SystemTime, UNIX_EPOCH};

struct StandardError;

/// Writes warnings and errors to standard error, and with `requests` a line for each request.
pub(super) fn install(requests: bool) {
    let level = if requests { LevelFilter::Info } else { LevelFilter::Warn };
    // The command sets no other logger.
    if log::set_logger(&StandardError).is_ok() {
        log::set_max_level(level);
    }
}

impl Log for StandardError {
    /// Remarks of the libraries below, such as drivers, are left out.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("anser")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let level = record.level().as_str().to_lowercase();
            let line = format!("{}.{:03} {level}: {}", now.as_secs(), now.subsec_millis(), record.args());
            note(&printable(&line));
        }
    }

    fn flush(&self) {}
}
