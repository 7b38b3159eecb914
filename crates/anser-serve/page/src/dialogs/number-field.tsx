interface Props {
  label: string;
  placeholder: string;
  min: number;
  /** Null where the field is empty. */
  value: number | null;
  onChange: (value: number | null) => void;
}

/** A whole number, or nothing. */
export function OptionalNumber({ label, placeholder, min, value, onChange }: Props) {
  return (
    <label class="field">
      <span>{label}</span>
      <input
        type="number"
        inputMode="numeric"
        min={min}
        step={1}
        value={value ?? ""}
        placeholder={placeholder}
        onChange={(event) => {
          const field = event.currentTarget;
          if (field.value === "") onChange(null);
          else if (field.reportValidity()) onChange(field.valueAsNumber);
        }}
      />
    </label>
  );
}
