// The engine's handles and the calls on them.

import type * as module from "../engine/anser_web.js";
import { AnserError, asAnserError, cancelled } from "../errors.js";
import type { Arguments, CallName, Calls, Progress, Result } from "../protocol.js";
import type { Candidate, GenerationStep, FinishReason, ModelInfo } from "../types.js";
import { openSource, type Source } from "./source.js";
import { askForSubgroups } from "./subgroups.js";

/** The engine's module: functions and classes. */
export type Module = typeof module;
type FileBuilder = module.FileBuilder;
type Model = module.Model;
type Session = module.Session;

/** Starts threads for the module with this memory, and returns how many there are. */
type StartThreads = (engine: Module, memory: WebAssembly.Memory, n: number) => Promise<number>;

/** What a call has beside its arguments. */
export interface Context {
  signal: AbortSignal;
  onProgress(progress: Progress): void;
}

type Handlers = { [K in CallName]: (args: Arguments<K>, context: Context) => Result<K> | Promise<Result<K>> };

/** Tokens that are read between two looks at the messages, on the processor and on a GPU. */
const CHUNK_LEN = { cpu: 128, gpu: 1024 };
/** Texts that are embedded between two looks at the messages. */
const N_EMBEDDED = 16;
/** Bytes of a file that move at once. */
const PIECE_N_BYTES = 4 << 20;

/** Bytes by which the kind of a file is known. */
const HEAD_LEN = 9;

export class Engine {
  readonly #module: Module;
  readonly #startThreads: StartThreads | null;
  #model: Model | null = null;
  #info: ModelInfo | null = null;
  readonly #sessions = new Map<number, Session>();
  #next = 0;

  constructor(module: Module, startThreads: StartThreads | null = null) {
    this.#module = module;
    this.#startThreads = startThreads;
  }

  async call<K extends CallName>(name: K, args: Arguments<K>, context: Context): Promise<Result<K>> {
    try {
      return await this.#handlers[name](args, context);
    } catch (thrown) {
      if (thrown instanceof WebAssembly.RuntimeError) {
        const text = `the engine has crashed (${thrown.message}): load the model again, and please report it with what the console says`;
        throw new AnserError("engine", text, { cause: thrown });
      }
      throw asAnserError(thrown);
    }
  }

  readonly #handlers: Handlers = {
    load: (args, context) => this.#load(args, context),
    encode: ({ text }) => this.#loaded.encode(text),
    decode: ({ ids }) => this.#loaded.decode(ids),
    embed: (args, context) => this.#embed(args, context),
    render: ({ messages, reply }) => JSON.parse(this.#loaded.render(JSON.stringify(messages), JSON.stringify(reply))),
    encodePrompt: ({ prompt, reply }) => this.#loaded.encode_prompt(prompt, JSON.stringify(reply)),
    memory: () => this.#module.memory_n_bytes(),
    session: () => this.#keep(this.#loaded.session()),
    feed: (args, context) => this.#feed(args, context),
    nTokens: ({ session }) => this.#session(session).n_tokens(),
    logits: ({ session }) => this.#session(session).logits(),
    likely: ({ session, n }) => JSON.parse(this.#session(session).likely(n)) as Candidate[],
    state: ({ session }) => this.#session(session).state(),
    restore: ({ session, data }) => this.#session(session).restore(data),
    save: ({ session }) => this.#session(session).save(),
    open: ({ session, name, bytes }) => this.#session(session).open(name, bytes) ?? null,
    fork: ({ session }) => this.#keep(this.#session(session).fork()),
    reset: ({ session }) => this.#session(session).reset(),
    begin: ({ session, prompt, options }) => this.#session(session).begin(prompt, JSON.stringify(options)),
    step: async ({ session }) => {
      const json = await this.#session(session).step(this.#chunkLen);
      return JSON.parse(json) as GenerationStep & { end?: FinishReason };
    },
    finish: ({ session }) => this.#session(session).finish(),
    closeSession: ({ session }) => {
      this.#session(session).free();
      this.#sessions.delete(session);
    },
  };

  async #load({ source, cache, vocabulary, engine, onDevice, wasm }: Arguments<"load">, context: Context): Promise<ModelInfo> {
    askForSubgroups();
    const { default: init, Model } = this.#module;
    const started = wasm === null ? init() : init({ module_or_path: wasm });
    // If the download fails first, this function ends without awaiting `started`, whose failure would then count as unhandled.
    started.catch(() => {});
    const file = await openSource(source, cache, context);
    let isKept = false;
    try {
      const { memory } = await started.catch((thrown) => {
        throw new AnserError("engine", `the module of the engine cannot be loaded: ${String(thrown)}`, { cause: thrown });
      });
      const words = vocabulary ? await readSmall(await openSource(vocabulary, cache, context)) : null;
      const tell = (loaded: number, total: number) => {
        context.onProgress({ phase: "upload", loaded, total });
        return context.signal.aborted;
      };
      const notices = [...file.notices];
      let model: Model | null = null;
      const isRead = file.read !== undefined && isReadable(file);
      if (isRead && onDevice) {
        // The weights go to the GPU without the engine's memory, and the file stays open for rows that are read later.
        try {
          const reader = {
            read: (offset: number, into: Uint8Array) => file.read?.(offset, into) ?? 0,
            prepare: async (offset: number, length: number) => file.prepare?.(offset, length),
          };
          model = await Model.load_from_reader(file.name, file.nBytes, reader, JSON.stringify({ ...engine, threads: 1 }), words, tell);
          isKept = true;
        } catch (thrown) {
          const { code, message } = asAnserError(thrown);
          if (engine.device !== "auto" || (code !== "device" && code !== "memory" && code !== "lost")) throw thrown;
          notices.push(`the model runs on the processor, since the GPU cannot run it: ${message}`);
        }
      }
      if (!model) {
        const device = engine.device === "auto" && (isRead || !onDevice) ? "cpu" : engine.device;
        const threads = (await this.#startThreads?.(this.#module, memory, engine.threads)) ?? 1;
        const whole = await read(new this.#module.FileBuilder(file.name, file.nBytes), file, context);
        model = await Model.load(whole, JSON.stringify({ ...engine, device, threads }), words, tell);
      }
      this.#model = model;
      this.#info = { ...(JSON.parse(model.info()) as Omit<ModelInfo, "notices">), notices };
      return this.#info;
    } finally {
      if (!isKept) file.close();
    }
  }

  async #feed(args: Arguments<"feed">, { signal, onProgress }: Context): Promise<ReturnType<Calls["feed"]>> {
    const { tokens, logits, hidden } = args;
    const session = this.#session(args.session);
    const parts: { logits: Float32Array; hidden: Float32Array }[] = [];
    let start = 0;
    do {
      if (start > 0) {
        onProgress({ phase: "read", loaded: start, total: tokens.length });
        await messages();
        if (signal.aborted) throw cancelled("feed");
      }
      const end = Math.min(start + this.#chunkLen, tokens.length);
      const wanted = (which: typeof logits) => (which === "last" && end < tokens.length ? "none" : which);
      const fed = await session.feed(tokens.subarray(start, end), wanted(logits), wanted(hidden));
      parts.push({ logits: fed.logits(), hidden: fed.hidden() });
      fed.free();
      start = end;
    } while (start < tokens.length);
    const result: ReturnType<Calls["feed"]> = {};
    if (logits !== "none") result.logits = joined(parts.map((part) => part.logits));
    if (hidden !== "none") result.hidden = joined(parts.map((part) => part.hidden));
    return result;
  }

  async #embed({ texts, options }: Arguments<"embed">, { signal, onProgress }: Context): Promise<Float32Array[]> {
    const rows: Float32Array[] = [];
    for (let start = 0; start < texts.length; start += N_EMBEDDED) {
      if (start > 0) {
        onProgress({ phase: "read", loaded: start, total: texts.length });
        await messages();
        if (signal.aborted) throw cancelled("embed");
      }
      const some = texts.slice(start, start + N_EMBEDDED);
      const numbers = await this.#loaded.embed(some, JSON.stringify(options));
      const length = numbers.length / some.length;
      for (const i of some.keys()) rows.push(numbers.slice(i * length, (i + 1) * length));
    }
    return rows;
  }

  get #chunkLen(): number {
    return this.#info?.onGpu ? CHUNK_LEN.gpu : CHUNK_LEN.cpu;
  }

  get #loaded(): Model {
    if (!this.#model) throw new AnserError("option", "no model is loaded");
    return this.#model;
  }

  #keep(session: Session): number {
    this.#sessions.set(this.#next, session);
    return this.#next++;
  }

  #session(number: number): Session {
    const session = this.#sessions.get(number);
    if (!session) throw new AnserError("option", "the session is closed");
    return session;
  }
}

/** Whether a file of this beginning is read piece by piece: GGUF and safetensors are, `.pth` is not. */
function isReadable(file: Source): boolean {
  const head = new Uint8Array(HEAD_LEN);
  file.read?.(0, head);
  const text = String.fromCharCode(...head);
  return text.startsWith("GGUF") || text[8] === "{";
}

/** The whole file, in the engine's memory. */
async function read(builder: FileBuilder, file: Source, { signal }: Context): Promise<FileBuilder> {
  for await (const piece of file.pieces(PIECE_N_BYTES)) {
    if (signal.aborted) throw cancelled(file.name);
    builder.push(piece);
  }
  return builder;
}

/** The whole file. */
async function readSmall(file: Source): Promise<Uint8Array> {
  try {
    const whole = new Uint8Array(file.nBytes);
    let at = 0;
    for await (const piece of file.pieces(PIECE_N_BYTES)) {
      whole.set(piece, at);
      at += piece.length;
    }
    return whole;
  } finally {
    file.close();
  }
}

function joined(parts: Float32Array[]): Float32Array {
  const [first] = parts;
  if (parts.length === 1 && first) return first;
  const whole = new Float32Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Lets the worker take the messages that have come: a timer would wait 4 ms. */
function messages(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}
