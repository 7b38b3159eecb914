// What a worker does: it owns the engine, and runs one call after another.

import { asAnserError, cancelled } from "../errors.js";
import type { FromWorker, ToWorker } from "../protocol.js";
import type { Context, Engine } from "./engine.js";

declare const self: DedicatedWorkerGlobalScope;

const running = new Map<number, AbortController>();
let queue: Promise<void> = Promise.resolve();

function send(message: FromWorker, transfer: Transferable[] = []): void {
  self.postMessage(message, transfer);
}

/** The buffers of a result, which move to the page. */
function buffersOf(value: unknown): Transferable[] {
  const values = Array.isArray(value) ? value : value && typeof value === "object" && !ArrayBuffer.isView(value) ? Object.values(value) : [value];
  return [...new Set(values.filter(ArrayBuffer.isView).map((view) => view.buffer as ArrayBuffer))];
}

async function run(engine: Engine, message: Extract<ToWorker, { call: unknown }>, signal: AbortSignal): Promise<void> {
  const { id, call, args } = message;
  try {
    if (signal.aborted) throw cancelled(call);
    const context: Context = { signal, onProgress: (progress) => send({ id, progress }) };
    const value: unknown = await engine.call(call, args as never, context);
    send({ id, value }, buffersOf(value));
  } catch (thrown) {
    const { code, message } = signal.aborted ? cancelled(call) : asAnserError(thrown);
    send({ id, error: { code, message } });
  } finally {
    running.delete(id);
  }
}

/** Answers the page's calls with `engine`. */
export function serve(engine: Engine): void {
  self.onmessage = ({ data }: MessageEvent<ToWorker>) => {
    if ("cancel" in data) {
      running.get(data.cancel)?.abort();
      return;
    }
    const controller = new AbortController();
    running.set(data.id, controller);
    queue = queue.then(() => run(engine, data, controller.signal));
  };
}
