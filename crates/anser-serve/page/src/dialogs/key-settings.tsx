import { useState } from "preact/hooks";
import { connect, connection } from "../connection";
import { isKeyRemembered, key, setKey } from "../settings/key";
import { useStore } from "../store";

const TOLD = {
  connecting: "Asking the server…",
  ready: "The server answers.",
  "no key": "The server does not know this key.",
  failed: "The server does not answer.",
};

/** The key that the server may want. */
export function KeySettings() {
  const [value, setValue] = useState(key.value);
  const [isRemembered, setRemembered] = useState(isKeyRemembered());
  const kind = useStore(connection, (state) => state.kind);
  return (
    <section>
      <h3>Server</h3>
      <form
        class="key-form"
        onSubmit={(event) => {
          event.preventDefault();
          setKey(value.trim(), isRemembered);
          void connect();
        }}
      >
        <label class="field">
          <span>API key</span>
          <input
            type="password"
            autoComplete="off"
            spellcheck={false}
            value={value}
            placeholder="None"
            onInput={(event) => setValue(event.currentTarget.value)}
          />
        </label>
        <button type="submit" class="plain">
          Use
        </button>
        <label class="check">
          <input type="checkbox" checked={isRemembered} onChange={(event) => setRemembered(event.currentTarget.checked)} />
          <span>Remember it in this browser, not only until this tab is closed</span>
        </label>
      </form>
      <p class="muted" role="status">
        {TOLD[kind]}
      </p>
    </section>
  );
}
