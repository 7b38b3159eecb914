// The settings of a conversation.

import { numberIn, objectIn, oneOf, textIn } from "../json";
import { DEFAULT_SAMPLING, type Sampling, samplingIn } from "./sampling";

const EFFORTS = ["none", "low", "medium", "high"] as const;

/** How long the model thinks before it answers. */
export type Thinking = (typeof EFFORTS)[number];

export const THINKING_OPTIONS: { value: Thinking; label: string }[] = [
  { value: "none", label: "Off" },
  { value: "low", label: "Short" },
  { value: "medium", label: "Normal" },
  { value: "high", label: "Long" },
];

export interface Settings {
  /** The name of the model; empty takes the server's first one. */
  model: string;
  system: string;
  thinking: Thinking;
  sampling: Sampling;
  /** The most tokens of an answer; null leaves it to the server. */
  maxTokens: number | null;
  seed: number | null;
  /** The named state that the conversation begins from; empty begins with nothing. */
  state: string;
}

export const DEFAULT_SETTINGS: Settings = {
  model: "",
  system: "",
  thinking: "none",
  sampling: DEFAULT_SAMPLING,
  maxTokens: null,
  seed: null,
  state: "",
};

/** The settings in JSON that may have any form. */
export function settingsIn(value: unknown): Settings {
  const fields = objectIn(value);
  return {
    model: textIn(fields["model"]),
    system: textIn(fields["system"]),
    thinking: oneOf(fields["thinking"], EFFORTS),
    sampling: samplingIn(fields["sampling"]),
    maxTokens: numberIn(fields["maxTokens"]),
    seed: numberIn(fields["seed"]),
    state: textIn(fields["state"]),
  };
}

const NAME = "anser-settings";

/** The settings that a new conversation begins with: those that were changed last, but for the state. */
export function usualSettings(): Settings {
  try {
    return { ...settingsIn(JSON.parse(localStorage.getItem(NAME) ?? "{}")), state: "" };
  } catch {
    return DEFAULT_SETTINGS;
  }
}

export function keepUsualSettings(settings: Settings): void {
  localStorage.setItem(NAME, JSON.stringify(settings));
}
