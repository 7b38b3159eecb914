import { useState } from "preact/hooks";
import { createState, uploadState } from "../api/states";
import { requestModel } from "../connection";
import { ModelField } from "../model-field";
import { StateNameField } from "./state-name-field";

/** Makes a state of a text or a file. */
export function NewState({ act }: { act: (work: () => Promise<void>) => Promise<void> }) {
  const [name, setName] = useState("");
  const [text, setText] = useState("");
  const [model, setModel] = useState("");
  const [isReading, setReading] = useState(false);
  const read = async () => {
    setReading(true);
    await act(async () => {
      await createState({ model: requestModel(model), name, input: text });
      setName("");
      setText("");
    });
    setReading(false);
  };
  const upload = (input: HTMLInputElement) => {
    const file = input.files?.[0];
    input.value = "";
    if (file) void act(() => uploadState(nameOf(file.name), file, requestModel(model)));
  };
  return (
    <form
      class="card"
      onSubmit={(event) => {
        event.preventDefault();
        void read();
      }}
    >
      <h2>New state</h2>
      <StateNameField name={name} onChange={setName} />
      <ModelField model={model} onChange={setModel} />
      <label class="field">
        <span>Text</span>
        <textarea rows={5} required value={text} onInput={(event) => setText(event.currentTarget.value)} />
      </label>
      <div class="row">
        <button type="submit" class="primary" disabled={isReading}>
          {isReading ? "Reading…" : "Read the text"}
        </button>
        <label class="plain file">
          <span>Upload a state</span>
          <input type="file" accept=".safetensors" onChange={(event) => upload(event.currentTarget)} />
        </label>
      </div>
    </form>
  );
}

/** A name for the state of a file. */
function nameOf(file: string): string {
  return file.replace(/\.safetensors$/, "").replace(/[^A-Za-z0-9_-]+/g, "-").slice(0, 64);
}
