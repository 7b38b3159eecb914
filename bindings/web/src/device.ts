// Which device, and how many threads, before anything is loaded.

import type { DeviceChoice } from "./types.js";

interface Gpu {
  requestAdapter(options: object): Promise<{ info?: { isFallbackAdapter?: boolean } } | null>;
}

/** Whether a model with this choice is to run on a GPU. `auto` wants none in software. */
export async function hasDevice(device: DeviceChoice): Promise<boolean> {
  if (device !== "auto") return device !== "cpu";
  const { gpu } = navigator as { gpu?: Gpu };
  const adapter = await gpu?.requestAdapter({ powerPreference: "high-performance" }).catch(() => null);
  return adapter != null && adapter.info?.isFallbackAdapter !== true;
}

/**
 * The threads that are worth starting: browsers count two to a core on most large processors, where the second one gains nothing, and
 * more than eight wait for memory.
 */
export function usualThreads(): number {
  const n = navigator.hardwareConcurrency || 1;
  return n <= 4 ? n : Math.min(Math.ceil(n / 2), 8);
}
