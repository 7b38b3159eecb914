import { ModelField } from "../model-field";
import { PRESETS, type PresetName } from "../settings/sampling";
import { useStore } from "../store";
import { completionSettings } from "./settings";

export function CompletionSettingsFields() {
  const settings = useStore(completionSettings, (value) => value);
  const change = (changes: Partial<typeof settings>) => completionSettings.set({ ...settings, ...changes });
  return (
    <div class="fields">
      <label class="field">
        <span>Tokens to generate</span>
        <input
          type="number"
          min={1}
          max={4096}
          value={settings.maxTokens}
          onChange={(event) => {
            const input = event.currentTarget;
            if (input.value !== "" && input.reportValidity()) change({ maxTokens: input.valueAsNumber });
            else input.value = String(settings.maxTokens);
          }}
        />
      </label>
      <label class="field">
        <span>Sampling</span>
        <select
          value={settings.sampling.preset}
          onChange={(event) => change({ sampling: { ...settings.sampling, preset: event.currentTarget.value as PresetName } })}
        >
          {PRESETS.map(({ name, label }) => (
            <option key={name} value={name}>
              {label}
            </option>
          ))}
        </select>
      </label>
      <ModelField model={settings.model} onChange={(model) => change({ model })} />
    </div>
  );
}
