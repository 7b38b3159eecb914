/** As much of WebGPU as is changed here. */
interface Adapter {
  features: ReadonlySet<string>;
  requestDevice(descriptor?: { requiredFeatures?: Iterable<string> }): Promise<unknown>;
}

let hasAsked = false;

/**
 * Lets every request for a device of this worker ask for subgroups, too, where the adapter has them: wgpu has no name for the browsers'
 * feature. The engine asks the opened device whether it has it.
 */
export function askForSubgroups(): void {
  const prototype = (globalThis as { GPUAdapter?: { prototype: Adapter } }).GPUAdapter?.prototype;
  if (!prototype || hasAsked) return;
  hasAsked = true;
  const request = prototype.requestDevice;
  prototype.requestDevice = function (descriptor = {}) {
    const features = new Set(descriptor.requiredFeatures ?? []);
    if (this.features.has("subgroups")) features.add("subgroups");
    return request.call(this, { ...descriptor, requiredFeatures: [...features] });
  };
}
