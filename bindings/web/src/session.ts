import type { Connection } from "./connection.js";
import { AnserError } from "./errors.js";
import { Generation, wireOptions, type GenerateOptions } from "./generation.js";
import type { WireReply } from "./protocol.js";
import { State } from "./state.js";
import type { Candidate, ModelInfo, Which } from "./types.js";

/** Text, or token ids. */
export type Input = string | Uint32Array | readonly number[];

/** The options of {@link Session.feed}. */
export interface FeedOptions {
  /** The tokens whose logits are returned; `last` keeps them for {@link Session.logits}, too. */
  logits?: Which;
  /** The tokens whose rows after the final norm are returned. */
  hidden?: Which;
  /** Looked at between pieces of the input: those until then have been read. */
  signal?: AbortSignal;
  onProgress?(progress: { loaded: number; total: number }): void;
}

/** The outputs of tokens that were read. */
export interface Fed {
  /** `[nVocab]` for each token wanted. */
  logits?: Float32Array;
  /** `[nEmbd]` for each token wanted. */
  hidden?: Float32Array;
}

/** One sequence of tokens and its state. Sessions of a model share its weights and nothing else. */
export class Session {
  readonly #connection: Connection;
  readonly #info: ModelInfo;
  readonly #number: number;
  #closed = false;

  /** @internal */
  constructor(connection: Connection, info: ModelInfo, number: number) {
    this.#connection = connection;
    this.#info = info;
    this.#number = number;
  }

  /** Reads text or tokens. */
  async feed(input: Input, options: FeedOptions = {}): Promise<Fed> {
    const { logits = "last", hidden = "none", signal, onProgress } = options;
    const tokens = await this.#tokens(input);
    const progress = onProgress && (({ loaded, total }: { loaded: number; total: number }) => onProgress({ loaded, total }));
    return this.#connection.call("feed", { ...this.#at, tokens, logits, hidden }, { signal, onProgress: progress });
  }

  /** Generates the text after `prompt`. An empty prompt goes on after what the session has read. */
  generate(prompt: Input, options: GenerateOptions = {}): Generation {
    const tokens = this.#tokens(prompt);
    tokens.catch(() => {});
    return new Generation(this.#connection, this.#at.session, tokens, wireOptions(options), options.signal);
  }

  /** Generates an answer after the tokens `prompt`. @internal */
  answer(prompt: Promise<Uint32Array>, options: GenerateOptions, reply: WireReply): Generation {
    return new Generation(this.#connection, this.#at.session, prompt, { ...wireOptions(options), reply }, options.signal);
  }

  /** The number of tokens read since the fresh or restored state. */
  nTokens(): Promise<number> {
    return this.#connection.call("nTokens", this.#at);
  }

  /** The logits `[nVocab]` of the token that follows; empty if they are not known. */
  logits(): Promise<Float32Array> {
    return this.#connection.call("logits", this.#at);
  }

  /** The `n` tokens that are most likely to follow, the most likely first. */
  likely(n = 10): Promise<Candidate[]> {
    return this.#connection.call("likely", { ...this.#at, n });
  }

  /** A copy of the state. */
  async state(): Promise<State> {
    const data = await this.#connection.call("state", this.#at);
    return new State(data, this.#info.nLayer, this.#info.state);
  }

  /** Continues from a state. The session has no logits until it has read a token. */
  async restore(state: State): Promise<void> {
    const data = state.data.slice();
    await this.#connection.call("restore", { ...this.#at, data }, { transfer: [data.buffer] });
  }

  /** The state as a safetensors file, which names the model and has the last token's logits; other programs of Anser read it, too. */
  async save(): Promise<Blob> {
    const bytes = await this.#connection.call("save", this.#at);
    return new Blob([bytes as Uint8Array<ArrayBuffer>], { type: "application/octet-stream" });
  }

  /** Continues from a state file, or begins with a tuned state. Resolves to a remark if the state may be another model's, else to null. */
  async open(file: Blob): Promise<string | null> {
    const bytes = new Uint8Array(await file.arrayBuffer());
    const name = file instanceof File ? file.name : "the state";
    return this.#connection.call("open", { ...this.#at, name, bytes }, { transfer: [bytes.buffer] });
  }

  /** A second session that continues from the same point. */
  async fork(): Promise<Session> {
    return new Session(this.#connection, this.#info, await this.#connection.call("fork", this.#at));
  }

  /** Returns to a fresh state. */
  reset(): Promise<void> {
    return this.#connection.call("reset", this.#at);
  }

  /** Frees the state. */
  async close(): Promise<void> {
    if (this.#closed) return;
    const at = this.#at;
    this.#closed = true;
    await this.#connection.call("closeSession", at);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  get #at(): { session: number } {
    if (this.#closed) throw new AnserError("option", "the session is closed");
    return { session: this.#number };
  }

  async #tokens(input: Input): Promise<Uint32Array> {
    if (typeof input === "string") return this.#connection.call("encode", { text: input });
    return tokenIds(input);
  }
}

/** Ids as the engine takes them. @internal */
export function tokenIds(ids: Uint32Array | readonly number[]): Uint32Array {
  if (ids instanceof Uint32Array) return ids;
  const wrong = ids.find((id) => !Number.isInteger(id) || id < 0 || id > 0xffffffff);
  if (wrong !== undefined) throw new AnserError("option", `token ids are whole numbers from 0 on, found ${wrong}`);
  return Uint32Array.from(ids);
}
