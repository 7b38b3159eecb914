// How tokens are drawn.

import { numberIn, objectIn, oneOf } from "../json";

/** The options of the sampler, by their names in the API. */
export interface SamplingValues {
  temperature: number;
  top_p: number;
  top_k: number;
  min_p: number;
  presence_penalty: number;
  frequency_penalty: number;
  penalty_decay: number;
}

const PRESET_NAMES = ["recommended", "creative", "exact", "custom"] as const;

export type PresetName = (typeof PRESET_NAMES)[number];

export interface Sampling {
  preset: PresetName;
  /** What is sent with the preset `custom`. */
  values: SamplingValues;
}

export interface Preset {
  name: PresetName;
  label: string;
  hint: string;
  /** What the fields show; what is sent, but for `recommended`, of which nothing is sent. */
  values: SamplingValues;
}

const RECOMMENDED: SamplingValues = {
  temperature: 1,
  top_p: 0.3,
  top_k: 0,
  min_p: 0,
  presence_penalty: 0.5,
  frequency_penalty: 0.5,
  penalty_decay: 0.996,
};

/** The presets that the authors of RWKV recommend. */
export const PRESETS: Preset[] = [
  {
    name: "recommended",
    label: "Recommended",
    hint: "RWKV's own for chats, or for thinking where the model thinks",
    values: RECOMMENDED,
  },
  {
    name: "creative",
    label: "Creative",
    hint: "More varied words, few repetitions",
    values: { ...RECOMMENDED, temperature: 0.6, top_p: 0.8, presence_penalty: 2, frequency_penalty: 0.2, penalty_decay: 0.99 },
  },
  {
    name: "exact",
    label: "Exact",
    hint: "Always the most likely token",
    values: { ...RECOMMENDED, temperature: 0, top_p: 1, presence_penalty: 0, frequency_penalty: 0 },
  },
];

export const DEFAULT_SAMPLING: Sampling = { preset: "recommended", values: RECOMMENDED };

/** The values that a choice stands for. */
export function valuesOf(sampling: Sampling): SamplingValues {
  return PRESETS.find((preset) => preset.name === sampling.preset)?.values ?? sampling.values;
}

/** The fields of a request. Without any the server takes RWKV's recommended sampling. */
export function samplingFields(sampling: Sampling): Record<string, unknown> {
  return sampling.preset === "recommended" ? {} : { ...valuesOf(sampling), sampler_order: "rwkv" };
}

export interface SamplingField {
  name: keyof SamplingValues;
  label: string;
  min: number;
  max: number;
  step: number;
}

/** The bounds are those of the API. */
export const SAMPLING_FIELDS: SamplingField[] = [
  { name: "temperature", label: "Temperature", min: 0, max: 2, step: 0.05 },
  { name: "top_p", label: "Top-p", min: 0, max: 1, step: 0.05 },
  { name: "top_k", label: "Top-k (0 = off)", min: 0, max: 1000, step: 1 },
  { name: "min_p", label: "Min-p (0 = off)", min: 0, max: 1, step: 0.01 },
  { name: "presence_penalty", label: "Presence penalty", min: -2, max: 2, step: 0.1 },
  { name: "frequency_penalty", label: "Frequency penalty", min: -2, max: 2, step: 0.1 },
  { name: "penalty_decay", label: "Penalty decay", min: 0, max: 1, step: 0.001 },
];

/** The sampling in JSON that may have any form. */
export function samplingIn(value: unknown): Sampling {
  const { preset, values } = objectIn(value);
  const given = objectIn(values);
  const read = { ...RECOMMENDED };
  for (const { name, min, max } of SAMPLING_FIELDS) {
    const number = numberIn(given[name]);
    if (number !== null && number >= min && number <= max) read[name] = number;
  }
  return { preset: oneOf(preset, PRESET_NAMES), values: read };
}
