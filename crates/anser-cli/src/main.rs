//! The program `anser`.

use std::process::ExitCode;

fn main() -> ExitCode {
    quiet_device_select();
    anser_cli::report_bus_errors();
    ExitCode::from(anser_cli::run(std::env::args_os().collect()))
}

/// Switches Mesa's Vulkan layer for device selection off on machines without a desktop.
///
/// That layer asks the desktop (Wayland, X) on which GPU it runs. On a machine without a desktop, which has no
/// `XDG_RUNTIME_DIR` either, libwayland writes "error: XDG_RUNTIME_DIR is invalid or not set" to standard error each
/// time. A user who has set `MESA_VK_DEVICE_SELECT` wants the layer and keeps it.
fn quiet_device_select() {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if ["XDG_RUNTIME_DIR", "NODEVICE_SELECT", "MESA_VK_DEVICE_SELECT"].into_iter().any(is_set) {
        return;
    }
    // SAFETY: changing the environment is unsound while another thread may read it. This is the first thing the process
    // does, and it has no other thread yet.
    #[allow(unsafe_code)]
    unsafe {
        std::env::set_var("NODEVICE_SELECT", "1");
    }
}
