import { PRESETS, type Sampling, SAMPLING_FIELDS, type SamplingField, valuesOf } from "../settings/sampling";
import { Segments } from "./segments";

const OPTIONS = [...PRESETS.map(({ name, label }) => ({ value: name, label })), { value: "custom" as const, label: "Custom" }];

interface Props {
  sampling: Sampling;
  onChange: (sampling: Sampling) => void;
}

/** How tokens are drawn: a preset, or values of the user's own. */
export function SamplingSettings({ sampling, onChange }: Props) {
  const values = valuesOf(sampling);
  const hint = PRESETS.find((preset) => preset.name === sampling.preset)?.hint ?? "Values of your own";
  const change = (field: SamplingField, value: number) => onChange({ preset: "custom", values: { ...values, [field.name]: value } });
  return (
    <>
      <div class="field">
        <span aria-hidden="true">Sampling</span>
        <Segments name="preset" label="Sampling" options={OPTIONS} value={sampling.preset} onChange={(preset) => onChange({ preset, values })} />
        <p class="muted">{hint}</p>
      </div>
      <details class="more">
        <summary>Values</summary>
        <div class="fields">
          {SAMPLING_FIELDS.map((field) => (
            <label class="field" key={field.name}>
              <span>{field.label}</span>
              <input
                type="number"
                inputMode="decimal"
                min={field.min}
                max={field.max}
                step={field.step}
                value={values[field.name]}
                onChange={(event) => {
                  const input = event.currentTarget;
                  if (input.value !== "" && input.reportValidity()) change(field, input.valueAsNumber);
                  else input.value = String(values[field.name]);
                }}
              />
            </label>
          ))}
        </div>
      </details>
    </>
  );
}
