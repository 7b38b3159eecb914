// The messages between the page and the worker.

import type { ErrorCode } from "./errors.js";
import type { CacheChoice, DeviceChoice, EmbedOptions, FinishReason, GenerationStep, LoadProgress, Message, ModelInfo } from "./types.js";
import type { Candidate, ChatTemplate, SamplingOptions, Thinking, Which } from "./types.js";

/** Where a model comes from, as it crosses to the worker. */
export type WireSource = { url: string } | { blob: Blob; name: string } | { opfs: string };

/** How the engine runs a model. */
export interface EngineOptions {
  device: DeviceChoice;
  exact?: boolean;
  gpuMemory?: number;
  /** Threads of the processor. */
  threads: number;
}

/** A generation's options, as the engine reads them. */
export interface WireGenerate {
  sampling?: SamplingOptions;
  maxTokens?: number;
  stop?: string[];
  stopTokens?: number[];
  probabilities?: number;
  reply?: WireReply;
}

/** How an answer begins. */
export interface WireReply {
  template?: ChatTemplate;
  thinking?: Thinking;
}

/** All calls: arguments and result. `session` is a session's number. */
export interface Calls {
  load(args: { source: WireSource; cache: CacheChoice; vocabulary: WireSource | null; engine: EngineOptions; onDevice: boolean; wasm: string | null }): ModelInfo;
  encode(args: { text: string }): Uint32Array;
  decode(args: { ids: Uint32Array }): string;
  embed(args: { texts: string[]; options: EmbedOptions }): Float32Array[];
  render(args: { messages: Message[]; reply: WireReply }): { turns: string; opening: string };
  encodePrompt(args: { prompt: string; reply: WireReply }): Uint32Array;
  memory(args: object): number;
  session(args: object): number;
  feed(args: { session: number; tokens: Uint32Array; logits: Which; hidden: Which }): { logits?: Float32Array; hidden?: Float32Array };
  nTokens(args: { session: number }): number;
  logits(args: { session: number }): Float32Array;
  likely(args: { session: number; n: number }): Candidate[];
  state(args: { session: number }): Float32Array;
  restore(args: { session: number; data: Float32Array }): void;
  save(args: { session: number }): Uint8Array;
  open(args: { session: number; name: string; bytes: Uint8Array }): string | null;
  fork(args: { session: number }): number;
  reset(args: { session: number }): void;
  begin(args: { session: number; prompt: Uint32Array; options: WireGenerate }): void;
  step(args: { session: number }): GenerationStep & { end?: FinishReason };
  finish(args: { session: number }): void;
  closeSession(args: { session: number }): void;
}

export type CallName = keyof Calls;
export type Arguments<K extends CallName> = Parameters<Calls[K]>[0];
export type Result<K extends CallName> = ReturnType<Calls[K]>;

/** From the page: a call, or that a call is to end. */
export type ToWorker = { id: number; call: CallName; args: unknown } | { cancel: number };

/** Progress of loading, or of reading tokens. */
export type Progress = LoadProgress | { phase: "read"; loaded: number; total: number };

/** From the worker. */
export type FromWorker =
  | { id: number; value: unknown }
  | { id: number; error: { code: ErrorCode; message: string } }
  | { id: number; progress: Progress };
