// What the page and the worker both name.

/** A phase of loading: how many of how many bytes (or kernels) are done. */
export interface LoadProgress {
  phase: "download" | "upload" | "compile";
  loaded: number;
  total: number;
}

/**
 * Where a model runs. `auto` takes a hardware GPU if there is one, else the processor; `webgpu:0` takes whatever the browser has, be it a
 * GPU in software.
 */
export type DeviceChoice = "auto" | "webgpu" | `webgpu:${number}` | "cpu";

/** Where a downloaded model is kept. `auto` keeps it in the origin's private file system if there is room, and goes on without if not. */
export type CacheChoice = "auto" | "opfs" | "none";

/** How turns of a conversation are written: `User: …`, `User✿…✿`, or ChatML. */
export type ChatTemplate = "g1" | "g1h" | "chatml";

/** Whether a model thinks before it answers; `short` and `long` are hints that newer models know, `fake` shows it an empty thought. */
export type Thinking = "off" | "on" | "short" | "long" | "fake";

/** A part of a state: name, shape in one layer, and where all its layers lie. */
export interface StatePart {
  name: string;
  /** Shape in one layer: `[C]`, or `[H, N, N]` (head, value row, key column). */
  shape: number[];
  /** First element in the state's numbers. */
  start: number;
  /** Element after the last one. */
  end: number;
}

/** A loaded model. */
export interface ModelInfo {
  /** Name of the file. */
  name: string;
  /** Version and sizes in words. */
  title: string;
  nVocab: number;
  nEmbd: number;
  nLayer: number;
  nHead: number;
  headSize: number;
  /** Bytes of weights that a token reads. */
  nWeightBytes: number;
  /** The device and the reason for it, in one line. */
  device: string;
  /** Whether that is a GPU. */
  onGpu: boolean;
  /** How the model was trained on conversations. */
  template: ChatTemplate | null;
  hasTokenizer: boolean;
  /** Whether it can continue texts; models that only embed them cannot. */
  hasLogits: boolean;
  /** The token that begins a document. */
  documentStart: number;
  state: StatePart[];
  /** What the user should know: that the file is not kept, for example. */
  notices: string[];
}

/** How tokens are drawn; what is missing is as in `preset`. */
export interface SamplingOptions {
  /** `default` suits chat, `greedy` always takes the most likely token, `plain` is the model's own distribution, `thinking` suits models that think. */
  preset?: "default" | "greedy" | "plain" | "thinking";
  order?: "rwkv" | "common";
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  typicalP?: number;
  presencePenalty?: number;
  frequencyPenalty?: number;
  penaltyDecay?: number;
  repetitionPenalty?: number;
  /** Added to the logits of tokens: pairs of id and value. */
  logitBias?: [number, number][];
  /** The same seed gives the same text. */
  seed?: number;
}

/** What of a call's tokens is wanted. */
export type Which = "none" | "last" | "all";

/** A token with its log-probability by the model's own logits. */
export interface Candidate {
  id: number;
  text: string;
  logProbability: number;
}

/** A token that was drawn. */
export interface DrawnToken {
  id: number;
  /** Its text; bytes that are no whole character are U+FFFD. */
  text: string;
  /** With `probabilities`: its log-probability. */
  logProbability?: number;
  /** With `probabilities`: the most likely tokens in its place. */
  top?: Candidate[];
}

/** What a step of a generation gave. */
export interface GenerationStep {
  /** More of the text: whole characters, maybe none. */
  text: string;
  /** More of the thought, in answers. */
  reasoning?: string;
  tokens: DrawnToken[];
  /** Tokens of the prompt that are yet to be read. */
  nUnread: number;
}

/** Why a text ended: `turn` is the end of an answer. */
export type FinishReason = "stop" | "turn" | "length" | "cancelled";

/** How texts are embedded. What is missing is as the model was trained. */
export interface EmbedOptions {
  /** The last token's row, or the mean of all. */
  pooling?: "last" | "mean";
  /** The residual stream after this layer instead of the final norm. */
  layer?: number;
  /** Scale each row to length 1. */
  normalize?: boolean;
}

/** A turn of a conversation. */
export interface Message {
  role: "system" | "user" | "assistant" | "tool";
  content: string;
}
