//! What a browser's device says of itself that wgpu does not tell.

use js_sys::{Function, Reflect};
use wasm_bindgen::{JsCast, JsValue};

/// Whether shaders of `device` may use subgroup operations and the built-in values `subgroup_id` and `num_subgroups`. wgpu cannot ask for
/// the feature, so the program that owns the page's worker has to add `subgroups` to what `GPUAdapter.requestDevice` is asked for.
pub(super) fn has_subgroups(device: &wgpu::Device) -> bool {
    let features = device.as_webgpu().and_then(|device| get(device.as_ref(), "features"));
    let gpu = get(&js_sys::global(), "navigator").and_then(|navigator| get(&navigator, "gpu"));
    let language = gpu.and_then(|gpu| get(&gpu, "wgslLanguageFeatures"));
    let has = |set: Option<JsValue>, name: &str| {
        let set = set?;
        let has = get(&set, "has")?.dyn_into::<Function>().ok()?;
        has.call1(&set, &name.into()).ok()?.as_bool()
    };
    has(features, "subgroups") == Some(true) && has(language, "subgroup_id") == Some(true)
}

/// A name of the hardware: its description, or its vendor and architecture where a browser describes nothing.
pub(super) fn name(device: &wgpu::Device) -> Option<String> {
    let info = get(device.as_webgpu()?.as_ref(), "adapterInfo")?;
    let text = |name: &str| get(&info, name)?.as_string().filter(|text| !text.is_empty());
    let parts = || ["vendor", "architecture"].into_iter().filter_map(text).collect::<Vec<_>>().join(" ");
    text("description").or_else(|| Some(parts()).filter(|name| !name.is_empty()))
}

fn get(of: &JsValue, name: &str) -> Option<JsValue> {
    Reflect::get(of, &name.into()).ok().filter(|value| !value.is_undefined() && !value.is_null())
}
