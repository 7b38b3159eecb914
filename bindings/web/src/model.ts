import { Connection } from "./connection.js";
import { Conversation, type ChatOptions } from "./conversation.js";
import { hasDevice, usualThreads } from "./device.js";
import { AnserError } from "./errors.js";
import type { EngineOptions, WireSource } from "./protocol.js";
import { Session, tokenIds } from "./session.js";
import { absolute } from "./store.js";
import type { CacheChoice, DeviceChoice, EmbedOptions, LoadProgress, ModelInfo } from "./types.js";

/**
 * Where a model comes from: a URL (kept after the first download), a file of the user, a file in the origin's private file system, or
 * `demo`, which is the file `demo-q8_0.gguf` beside the page.
 */
export type ModelSource = string | URL | Blob | { opfs: string };

/** The options of {@link load}. */
export interface LoadOptions {
  device?: DeviceChoice;
  /** Round no activations: slower, and as close to the model's formulas as floats are. */
  exact?: boolean;
  /** A vocabulary file (`rwkv_vocab_v20230424.txt`, or JSON), for models that carry none: safetensors and `.pth` files. */
  vocabulary?: ModelSource;
  /** Bytes of GPU memory for weights; the others stream in every step. By default as many as there are. */
  gpuMemory?: number;
  /** Threads of the processor, where the page is cross-origin isolated and the package is built with them. By default as many as help. */
  threads?: number;
  cache?: CacheChoice;
  /** Ask the browser never to remove what this site keeps. Some ask the user. */
  persist?: boolean;
  /** Ends loading. What was downloaded is kept. */
  signal?: AbortSignal;
  onProgress?(progress: LoadProgress): void;
  /**
   * Makes the worker, for bundlers that find it another way: it runs the module `anser-web/worker`, or `anser-web/worker-threaded`, which
   * has threads and no GPU.
   */
  worker?: () => Worker;
  /** Where the engine's module is, if not beside the worker: the one for that worker. Without `worker` it is the one without threads. */
  wasm?: string | URL;
}

const DEMO = "demo-q8_0.gguf";

/** Loads a model into a worker of its own. */
export async function load(source: ModelSource, options: LoadOptions = {}): Promise<Model> {
  const { signal, onProgress, device = "auto", cache = "auto", exact, gpuMemory, vocabulary, wasm } = options;
  const engine: EngineOptions = { device, threads: threads(options.threads) };
  if (exact !== undefined) engine.exact = exact;
  if (gpuMemory !== undefined) engine.gpuMemory = gpuMemory;
  // Whether it promises that is the browser's to say.
  if (options.persist) await navigator.storage?.persist?.().catch(() => false);
  const onDevice = await hasDevice(device);
  const isThreaded = !onDevice && wasm === undefined && engine.threads > 1;
  const worker = options.worker?.() ?? (isThreaded ? threadedWorker() : plainWorker());
  const connection = new Connection(worker);
  try {
    const args = { source: wireSource(source), vocabulary: vocabulary === undefined ? null : wireSource(vocabulary), cache, engine, onDevice, wasm: wasm === undefined ? null : absolute(wasm) };
    const progress = onProgress && ((progress: { phase: string }) => onProgress(progress as LoadProgress));
    return new Model(connection, await connection.call("load", args, { signal, onProgress: progress }));
  } catch (error) {
    connection.close();
    throw error;
  }
}

function plainWorker(): Worker {
  return new Worker(new URL("./worker/main.js", import.meta.url), { type: "module", name: "anser" });
}

function threadedWorker(): Worker {
  return new Worker(new URL("./worker/threaded.js", import.meta.url), { type: "module", name: "anser" });
}

/** The number of threads: one where the page may not share memory. */
function threads(wanted: number | undefined): number {
  if (wanted !== undefined && (!Number.isInteger(wanted) || wanted < 1)) {
    throw new AnserError("option", `threads: expected a whole number from 1 on, found ${wanted}`);
  }
  return globalThis.crossOriginIsolated === true ? (wanted ?? usualThreads()) : 1;
}

function wireSource(source: ModelSource): WireSource {
  if (source === "demo") return { url: absolute(DEMO) };
  if (typeof source === "string" || source instanceof URL) return { url: absolute(source) };
  if (source instanceof Blob) return { blob: source, name: source instanceof File ? source.name : "model" };
  if (typeof source.opfs === "string") return source;
  throw new AnserError("option", "source: expected a URL, a File or Blob, { opfs: path } or \"demo\"");
}

/** A loaded model. All calls wait for those before them. */
export class Model {
  /** Name, sizes, device, and what the user should know. */
  readonly info: ModelInfo;
  readonly #connection: Connection;

  /** @internal */
  constructor(connection: Connection, info: ModelInfo) {
    this.#connection = connection;
    this.info = info;
  }

  /** Token ids of a text. */
  encode(text: string): Promise<Uint32Array> {
    return this.#connection.call("encode", { text });
  }

  /** The text of token ids; bytes that are not UTF-8 become U+FFFD. */
  async decode(ids: Uint32Array | readonly number[]): Promise<string> {
    return this.#connection.call("decode", { ids: tokenIds(ids) });
  }

  /** A new session with a fresh state. */
  async session(): Promise<Session> {
    return new Session(this.#connection, this.info, await this.#connection.call("session", {}));
  }

  /** Embeddings of texts: rows `[nEmbd]`, in their order. */
  embed(
    texts: string | readonly string[],
    options: EmbedOptions & { signal?: AbortSignal; onProgress?(progress: { loaded: number; total: number }): void } = {},
  ): Promise<Float32Array[]> {
    const { signal, onProgress, ...rest } = options;
    const args = { texts: typeof texts === "string" ? [texts] : [...texts], options: rest };
    return this.#connection.call("embed", args, { signal, onProgress: onProgress && ((progress) => onProgress(progress)) });
  }

  /** A new conversation. */
  async chat(options: ChatOptions = {}): Promise<Conversation> {
    return new Conversation(this.#connection, await this.session(), options);
  }

  /** Bytes of memory that the engine has taken in the worker; browsers give none of it back before {@link Model.close}. */
  memory(): Promise<number> {
    return this.#connection.call("memory", {});
  }

  /** Ends the worker and frees all memory. Calls that wait fail. */
  async close(): Promise<void> {
    this.#connection.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
