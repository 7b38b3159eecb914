import { useState } from "preact/hooks";
import { byTime, keep, library } from "../conversations/library";
import { conversationsIn, fileOf } from "../conversations/reading";
import type { Conversation } from "../conversations/tree";
import { discardAll, useCurrent } from "../current";
import { download } from "../download";
import { count } from "../format";
import { dialog } from "../shell";
import { useStore } from "../store";

/** The conversations as files. */
export function StoredConversations() {
  const [told, setTold] = useState("");
  const all = useStore(library, (conversations) => conversations) ?? new Map<string, Conversation>();
  const shown = useCurrent();
  const save = (conversations: Conversation[]) =>
    download("conversations.json", new Blob([fileOf(conversations)], { type: "application/json" }));
  const deleteAll = () => {
    // The notice that can bring them back lies below the dialog.
    dialog.set(null);
    discardAll();
  };
  const read = async (input: HTMLInputElement) => {
    const file = input.files?.[0];
    input.value = "";
    if (!file) return;
    try {
      const conversations = conversationsIn(await file.text());
      conversations.forEach(keep);
      setTold(`Imported ${count(conversations.length, "conversation")}.`);
    } catch (thrown) {
      setTold(thrown instanceof Error ? thrown.message : String(thrown));
    }
  };
  return (
    <section>
      <h3>Conversations</h3>
      <p class="muted">{count(all.size, "conversation")} in this browser, and nowhere else.</p>
      <div class="row">
        <button type="button" class="plain" disabled={!all.has(shown.id)} onClick={() => save([shown])}>
          Export this one
        </button>
        <button type="button" class="plain" disabled={all.size === 0} onClick={() => save(byTime(all))}>
          Export all
        </button>
        <label class="plain file">
          <span>Import</span>
          <input type="file" accept="application/json,.json" onChange={(event) => void read(event.currentTarget)} />
        </label>
        <button type="button" class="plain" disabled={all.size === 0} onClick={deleteAll}>
          Delete all
        </button>
      </div>
      <p class="muted" role="status">
        {told}
      </p>
    </section>
  );
}
