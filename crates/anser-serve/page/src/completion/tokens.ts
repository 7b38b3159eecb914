// Tokens with their probabilities.

import type { CompletionPiece } from "../api/completions";

export interface Alternative {
  text: string;
  probability: number;
}

export interface ScoredToken {
  /** What the text has of it; empty for a token inside a character. */
  text: string;
  /** Null for a token that nothing came before. */
  probability: number | null;
  /** The most likely tokens in its place, the likeliest one first. */
  alternatives: Alternative[];
}

export function textOf(tokens: ScoredToken[]): string {
  return tokens.map((token) => token.text).join("");
}

/** Puts the pieces of one text together. */
export class TokenReader {
  #text = "";
  #offsets: number[] = [];
  #tokens: Omit<ScoredToken, "text">[] = [];

  /** All tokens so far. Characters are cut where the tokens' offsets say, since a token may hold a part of a character. */
  read({ text, logprobs }: CompletionPiece): ScoredToken[] {
    this.#text += text;
    logprobs?.token_logprobs.forEach((logprob, index) => {
      this.#offsets.push(logprobs.text_offset[index] ?? 0);
      const alternatives = Object.entries(logprobs.top_logprobs[index] ?? {})
        .map(([text, logprob]) => ({ text, probability: Math.exp(logprob) }))
        .sort((a, b) => b.probability - a.probability);
      this.#tokens.push({ probability: logprob === null ? null : Math.exp(logprob), alternatives });
    });
    const characters = Array.from(this.#text);
    return this.#tokens.map((token, index) => {
      const text = characters.slice(this.#offsets[index], this.#offsets[index + 1]).join("");
      return { ...token, text };
    });
  }
}

/** How surprising a token was, from 0 (nearly certain) to 4 (hardly likely). */
export function surprise({ probability }: ScoredToken): number {
  if (probability === null) return 0;
  const bounds = [0.8, 0.4, 0.15, 0.04];
  return bounds.filter((bound) => probability < bound).length;
}

/** The perplexity of the tokens; null where none has a probability. */
export function perplexity(tokens: ScoredToken[]): number | null {
  const known = tokens.flatMap(({ probability }) => (probability === null ? [] : [Math.log(probability)]));
  if (known.length === 0) return null;
  return Math.exp(-known.reduce((sum, logprob) => sum + logprob, 0) / known.length);
}

/** The token with its white space made visible. */
export function visible(text: string): string {
  if (text === "") return "part of a character";
  return text.replace(/ /g, "␣").replace(/\n/g, "↵").replace(/\t/g, "⇥");
}
