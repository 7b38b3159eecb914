import { AnserError, cancelled } from "./errors.js";
import type { Arguments, CallName, FromWorker, Progress, Result, ToWorker } from "./protocol.js";

/** What a call may have beside its arguments. @internal */
export interface CallOptions {
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: Progress) => void) | undefined;
  transfer?: Transferable[];
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: AnserError): void;
  onProgress: ((progress: Progress) => void) | undefined;
}

/** The page's end of a worker: calls that are answered by promises. @internal */
export class Connection {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  #next = 0;
  #closed: AnserError | null = null;

  constructor(worker: Worker) {
    this.#worker = worker;
    worker.onmessage = (event: MessageEvent<FromWorker>) => this.#take(event.data);
    worker.onerror = (event) => {
      event.preventDefault();
      this.#end(new AnserError("engine", `the worker has failed: ${event.message || "its script cannot be loaded"}`));
    };
    worker.onmessageerror = () => this.#end(new AnserError("engine", "a message of the worker cannot be read"));
  }

  call<K extends CallName>(name: K, args: Arguments<K>, options: CallOptions = {}): Promise<Result<K>> {
    const { signal, onProgress, transfer = [] } = options;
    return new Promise<Result<K>>((resolve, reject) => {
      if (this.#closed) return reject(this.#closed);
      if (signal?.aborted) return reject(cancelled(name));
      const id = this.#next++;
      const cancel = () => this.#worker.postMessage({ cancel: id } satisfies ToWorker);
      signal?.addEventListener("abort", cancel, { once: true });
      const done = () => signal?.removeEventListener("abort", cancel);
      this.#waiting.set(id, {
        resolve: (value) => (done(), resolve(value as Result<K>)),
        reject: (error) => (done(), reject(error)),
        onProgress,
      });
      this.#worker.postMessage({ id, call: name, args } satisfies ToWorker, transfer);
    });
  }

  /** Ends the worker, and with it all memory of the model. Calls that wait fail. */
  close(): void {
    this.#end(new AnserError("option", "the model is closed"));
  }

  #take(message: FromWorker): void {
    const waiting = this.#waiting.get(message.id);
    if (!waiting) return;
    if ("progress" in message) return waiting.onProgress?.(message.progress);
    this.#waiting.delete(message.id);
    if ("value" in message) waiting.resolve(message.value);
    else waiting.reject(new AnserError(message.error.code, message.error.message));
  }

  #end(error: AnserError): void {
    this.#closed ??= error;
    this.#worker.terminate();
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
  }
}
