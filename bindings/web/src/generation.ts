import type { Connection } from "./connection.js";
import { asAnserError } from "./errors.js";
import type { WireGenerate } from "./protocol.js";
import type { FinishReason, GenerationStep, SamplingOptions } from "./types.js";

/** The options of a generation. */
export interface GenerateOptions {
  sampling?: SamplingOptions;
  /** The most tokens to generate. */
  maxTokens?: number;
  /** Texts that end the generation; they are not part of it. */
  stop?: string[];
  /** Token ids that end it, instead of those that end a document. */
  stopTokens?: number[];
  /** Report this many of the most likely tokens beside each token drawn. */
  probabilities?: number;
  /** Looked at before every token: the text then ends, with the reason `cancelled`. */
  signal?: AbortSignal;
}

/** How a text ended. */
export interface Finished {
  reason: FinishReason;
  /** All tokens drawn, but for one that ended the text. */
  tokens: Uint32Array;
}

/** The options as the engine reads them. @internal */
export function wireOptions(options: GenerateOptions): WireGenerate {
  const { signal: _, ...wire } = options;
  return wire;
}

/**
 * A text that is being generated: iterate for its pieces. A token is drawn when a piece is asked for, so that the session stands where the
 * reader is; leaving the loop early ends the text.
 */
export class Generation implements AsyncIterable<string> {
  /** Resolves when the text has been iterated to its end. */
  readonly finished: Promise<Finished>;
  readonly #steps: AsyncGenerator<GenerationStep, void, undefined>;

  /** @internal */
  constructor(connection: Connection, session: number, prompt: Promise<Uint32Array>, wire: WireGenerate, signal?: AbortSignal) {
    const { promise, resolve, reject } = withResolvers<Finished>();
    this.finished = promise;
    // The iterator throws the error, too. A program that never looks at `finished` must not get it a second time, as unhandled.
    promise.catch(() => {});
    this.#steps = steps(connection, session, prompt, wire, signal, resolve, reject);
  }

  /** Pieces of the text: whole characters, at least one. */
  async *[Symbol.asyncIterator](): AsyncGenerator<string, void, undefined> {
    for await (const { text } of this.steps()) if (text !== "") yield text;
  }

  /** Every step with its tokens, and their probabilities if they were asked for. Steps that read the prompt have none. */
  steps(): AsyncGenerator<GenerationStep, void, undefined> {
    return this.#steps;
  }

  /** Runs to the end; the whole text. */
  async text(): Promise<string> {
    let text = "";
    for await (const piece of this) text += piece;
    return text;
  }
}

async function* steps(
  connection: Connection,
  session: number,
  prompt: Promise<Uint32Array>,
  options: WireGenerate,
  signal: AbortSignal | undefined,
  finish: (finished: Finished) => void,
  fail: (error: Error) => void,
): AsyncGenerator<GenerationStep, void, undefined> {
  const tokens: number[] = [];
  let reason: FinishReason = "cancelled";
  let begun = false;
  try {
    const ids = await prompt;
    if (signal?.aborted) return;
    await connection.call("begin", { session, prompt: ids, options });
    begun = true;
    while (!signal?.aborted) {
      const { end, ...step } = await connection.call("step", { session });
      for (const token of step.tokens) tokens.push(token.id);
      if (end) reason = end;
      yield step;
      if (end) return;
    }
  } catch (thrown) {
    const error = asAnserError(thrown);
    fail(error);
    throw error;
  } finally {
    // The session is free again before the loop goes on.
    if (begun) await connection.call("finish", { session }).catch(fail);
    finish({ reason, tokens: Uint32Array.from(tokens) });
  }
}

function withResolvers<T>(): { promise: Promise<T>; resolve(value: T): void; reject(error: Error): void } {
  let resolve!: (value: T) => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<T>((yes, no) => ((resolve = yes), (reject = no)));
  return { promise, resolve, reject };
}
