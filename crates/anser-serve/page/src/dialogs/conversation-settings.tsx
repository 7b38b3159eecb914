import { useEffect, useState } from "preact/hooks";
import { listStates, type NamedState } from "../api/states";
import { changeCurrentSettings } from "../current";
import type { Settings } from "../settings/conversation";
import { OptionalNumber } from "./number-field";
import { SamplingSettings } from "./sampling-settings";

/** The settings of the shown conversation, with which later ones begin, too. */
export function ConversationSettings({ settings, hasBegun }: { settings: Settings; hasBegun: boolean }) {
  return (
    <section>
      <h3>This conversation</h3>
      <label class="field">
        <span>System prompt</span>
        <textarea
          rows={3}
          value={settings.system}
          placeholder="What the model is told before the conversation"
          onInput={(event) => changeCurrentSettings({ system: event.currentTarget.value })}
        />
      </label>
      <SamplingSettings sampling={settings.sampling} onChange={(sampling) => changeCurrentSettings({ sampling })} />
      <div class="fields">
        <OptionalNumber
          label="Most tokens of an answer"
          placeholder="4096"
          min={1}
          value={settings.maxTokens}
          onChange={(maxTokens) => changeCurrentSettings({ maxTokens })}
        />
        <OptionalNumber label="Seed" placeholder="Random" min={0} value={settings.seed} onChange={(seed) => changeCurrentSettings({ seed })} />
        <StateField state={settings.state} isFixed={hasBegun && settings.state === ""} />
      </div>
    </section>
  );
}

/** The named state that the conversation begins from. A conversation that began with nothing goes on so. */
function StateField({ state, isFixed }: { state: string; isFixed: boolean }) {
  const [states, setStates] = useState<NamedState[]>([]);
  useEffect(() => {
    // Without a list the field shows what is chosen.
    listStates().then(setStates, () => {});
  }, []);
  const names = states.map((known) => known.id);
  const options = state === "" || names.includes(state) ? names : [state, ...names];
  const change = (name: string) => {
    // A state is of one model.
    const model = states.find((known) => known.id === name)?.model;
    changeCurrentSettings(model === undefined ? { state: name } : { state: name, model });
  };
  return (
    <label class="field">
      <span>Begins from the state</span>
      <select value={state} disabled={isFixed} onChange={(event) => change(event.currentTarget.value)}>
        <option value="">None</option>
        {options.map((name) => (
          <option key={name} value={name}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}
