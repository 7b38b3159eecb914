import { useState } from "preact/hooks";
import { problemOf } from "../api/client";
import { createState, textOfTurns } from "../api/states";
import { requestModel } from "../connection";
import { chatMessages } from "../conversations/generation";
import { type Conversation, shownPath, titleOf } from "../conversations/tree";
import { current } from "../current";
import { notify } from "../notice";
import { show } from "../router";
import { dialog } from "../shell";
import { StateNameField } from "../states/state-name-field";
import { Dialog } from "./dialog";

/** Keeps the state after the shown conversation under a name. */
export function SaveStateDialog() {
  const conversation = current();
  const [name, setName] = useState(suggestedName(conversation));
  const [told, setTold] = useState("");
  const [isSaving, setSaving] = useState(false);
  const save = async () => {
    setSaving(true);
    setTold("");
    try {
      await saveState(conversation, name);
      dialog.set(null);
      notify({ text: `Saved the state “${name}”.`, action: { label: "Show states", act: () => show({ kind: "states" }) } });
    } catch (thrown) {
      setTold(problemOf(thrown).message);
    }
    setSaving(false);
  };
  return (
    <Dialog title="Save the state">
      <form
        class="section"
        onSubmit={(event) => {
          event.preventDefault();
          void save();
        }}
      >
        <p>The server reads this conversation once and keeps what the model remembers of it. Later conversations can begin from there.</p>
        <StateNameField name={name} onChange={setName} />
        <p class="told" role="alert">
          {told}
        </p>
        <div class="row end">
          <button type="submit" class="primary" disabled={isSaving}>
            {isSaving ? "Saving…" : "Save"}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

async function saveState(conversation: Conversation, name: string): Promise<void> {
  const { settings } = conversation;
  const last = shownPath(conversation).at(-1);
  if (!last) return;
  const model = requestModel(settings.model);
  const input = await textOfTurns(model, chatMessages(conversation, last.id));
  await createState({ model, name, input, ...(settings.state === "" ? {} : { state: settings.state }) });
}

/** The first words of the title, as far as names of states have their letters. */
function suggestedName(conversation: Conversation): string {
  const words = titleOf(conversation).toLowerCase().match(/[a-z0-9]+/g) ?? [];
  return words.slice(0, 5).join("-").slice(0, 40) || "conversation";
}
