/// <reference lib="esnext.disposable" preserve="true" />
/**
 * RWKV language models in the browser.
 *
 * ```ts
 * import { load } from "anser-web";
 *
 * const model = await load("/models/rwkv7-g1-0.4b-q8_0.gguf");
 * const session = await model.session();
 * for await (const piece of session.generate("Once upon a time")) output.append(piece);
 * ```
 *
 * @module
 */

export { Answer, Conversation, type AnswerPiece, type ChatOptions } from "./conversation.js";
export { AnserError, type ErrorCode } from "./errors.js";
export { Generation, type Finished, type GenerateOptions } from "./generation.js";
export { load, Model, type LoadOptions, type ModelSource } from "./model.js";
export { probe, type Probe } from "./probe.js";
export { Session, type Fed, type FeedOptions, type Input } from "./session.js";
export { State } from "./state.js";
export { cached, remove, type CachedModel } from "./store.js";
export type * from "./types.js";
