// `POST /v1/completions` with the probabilities of tokens.

import { send, sendForJson } from "./client";
import { eventsOf } from "./events";

export interface CompletionRequest {
  /** Null asks for the only one. */
  model: string | null;
  prompt: string;
  max_tokens: number;
  [sampling: string]: unknown;
}

/** The tokens of a text with their log-probabilities, in lists of one length. */
export interface WireLogprobs {
  tokens: string[];
  token_logprobs: (number | null)[];
  top_logprobs: (Record<string, number> | null)[];
  /** Where each token begins, in characters from the start of the text. */
  text_offset: number[];
}

export interface CompletionPiece {
  text: string;
  logprobs: WireLogprobs | null;
}

interface WireCompletion {
  choices?: { text?: string; logprobs?: WireLogprobs | null }[];
}

/** The likely tokens that are asked for in the place of each token. */
const N_TOP = 5;

/** The pieces of the text that follows on the prompt, as they arrive. */
export async function* streamCompletion(request: CompletionRequest, signal: AbortSignal): AsyncGenerator<CompletionPiece> {
  const response = await send("v1/completions", { json: { ...request, logprobs: N_TOP, stream: true }, signal });
  for await (const event of eventsOf(response)) yield pieceOf(event as WireCompletion);
}

/** The tokens of the prompt itself, with their probabilities. */
export async function scorePrompt(model: string | null, prompt: string, signal: AbortSignal): Promise<CompletionPiece> {
  const json = { model, prompt, max_tokens: 0, echo: true, logprobs: N_TOP };
  return pieceOf(await sendForJson<WireCompletion>("v1/completions", { json, signal }));
}

function pieceOf(completion: WireCompletion): CompletionPiece {
  const choice = completion.choices?.[0];
  return { text: choice?.text ?? "", logprobs: choice?.logprobs ?? null };
}
