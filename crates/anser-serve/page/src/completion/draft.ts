// The text of the completion view: what the user wrote, and the tokens whose probabilities are known.

import { type CompletionPiece, scorePrompt, streamCompletion } from "../api/completions";
import { isAbort, type Problem, problemOf } from "../api/client";
import { requestModel } from "../connection";
import { samplingFields } from "../settings/sampling";
import { Store } from "../store";
import { completionSettings } from "./settings";
import { TokenReader, type ScoredToken, textOf } from "./tokens";

export interface Draft {
  /** The text before the tokens. */
  prompt: string;
  tokens: ScoredToken[];
  problem: Problem | null;
  /** What ends the request that runs; null if none does. */
  running: AbortController | null;
}

export const draft = new Store<Draft>({ prompt: "", tokens: [], problem: null, running: null });

export function setPrompt(prompt: string): void {
  draft.update((now) => ({ ...now, prompt }));
}

/** Makes all of it a text that can be changed. */
export function edit(): void {
  draft.update((now) => ({ ...now, prompt: now.prompt + textOf(now.tokens), tokens: [] }));
}

/** Takes another token in the place of the one at `index`, and goes on from there. */
export function take(index: number, token: ScoredToken): void {
  draft.update((now) => ({ ...now, tokens: [...now.tokens.slice(0, index), token] }));
  void generate();
}

export function stop(): void {
  draft.value.running?.abort();
}

/** Generates on from what is there. */
export async function generate(): Promise<void> {
  await run(async (model, signal) => {
    const { prompt, tokens } = draft.value;
    const { sampling, maxTokens } = completionSettings.value;
    const request = {
      model,
      prompt: prompt + textOf(tokens),
      max_tokens: maxTokens,
      ...samplingFields(sampling),
    };
    const reader = new TokenReader();
    for await (const piece of streamCompletion(request, signal)) {
      draft.update((now) => ({ ...now, tokens: [...tokens, ...reader.read(piece)] }));
    }
  });
}

/** Asks for the probabilities of the text itself. */
export async function score(): Promise<void> {
  await run(async (model, signal) => {
    const { prompt, tokens } = draft.value;
    const piece: CompletionPiece = await scorePrompt(model, prompt + textOf(tokens), signal);
    draft.update((now) => ({ ...now, prompt: "", tokens: new TokenReader().read(piece) }));
  });
}

async function run(work: (model: string | null, signal: AbortSignal) => Promise<void>): Promise<void> {
  if (draft.value.running) return;
  const running = new AbortController();
  draft.update((now) => ({ ...now, running, problem: null }));
  try {
    await work(requestModel(completionSettings.value.model), running.signal);
  } catch (thrown) {
    if (!isAbort(thrown)) draft.update((now) => ({ ...now, problem: problemOf(thrown) }));
  } finally {
    draft.update((now) => ({ ...now, running: null }));
  }
}
