interface Props {
  name: string;
  onChange: (name: string) => void;
}

/** The name that a state is to have on the server. */
export function StateNameField({ name, onChange }: Props) {
  return (
    <label class="field">
      <span>Name</span>
      <input
        value={name}
        required
        pattern="[A-Za-z0-9_\-]{1,64}"
        title="1 to 64 letters, digits, - and _"
        autoComplete="off"
        onInput={(event) => onChange(event.currentTarget.value)}
      />
    </label>
  );
}
