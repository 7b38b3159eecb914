import { DEFAULT_SAMPLING, type Sampling } from "../settings/sampling";
import { Store } from "../store";

export interface CompletionSettings {
  model: string;
  sampling: Sampling;
  maxTokens: number;
}

export const completionSettings = new Store<CompletionSettings>({
  model: "",
  sampling: DEFAULT_SAMPLING,
  maxTokens: 64,
});
