import { connection, modelFor, modelsOf } from "./connection";
import { useStore } from "./store";

interface Props {
  /** The chosen name; empty takes the server's first model. */
  model: string;
  onChange: (model: string) => void;
}

/** The choice of a model, where the server has several. */
export function ModelField({ model, onChange }: Props) {
  const models = useStore(connection, modelsOf);
  if (models.length < 2) return null;
  return (
    <label class="field">
      <span>Model</span>
      <select value={modelFor(model)} onChange={(event) => onChange(event.currentTarget.value)}>
        {models.map((name) => (
          <option key={name} value={name}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}
