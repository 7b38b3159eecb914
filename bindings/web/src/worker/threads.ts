// Threads for the processor's executor: workers on the module's memory, each of which lends itself.

import type { Module } from "./engine.js";

/** What a thread gets: the module, compiled, and its memory. */
export interface Shared {
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
}

/**
 * Starts threads, this one counted, and returns how many there are: one if the module was built without them.
 */
export async function startThreads(engine: Module, memory: WebAssembly.Memory, n: number): Promise<number> {
  if (!(memory.buffer instanceof SharedArrayBuffer)) return 1;
  const module = engine.compiled_module() as WebAssembly.Module;
  const one = () =>
    new Promise<void>((resolve, reject) => {
      const worker = new Worker(new URL("./thread.js", import.meta.url), { type: "module", name: "anser-thread" });
      worker.onmessage = () => resolve();
      worker.onerror = ({ message }) => reject(new Error(`a thread cannot be started: ${message || "its script cannot be loaded"}`));
      worker.postMessage({ module, memory } satisfies Shared);
    });
  await Promise.all(Array.from({ length: n - 1 }, one));
  // A thread answers just before it lends itself.
  while (engine.n_lent_threads() < n - 1) await new Promise((resolve) => setTimeout(resolve, 1));
  return n;
}
