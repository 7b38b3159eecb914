import { useState } from "preact/hooks";
import { connection } from "../connection";
import { useCurrent } from "../current";
import { ConversationSettings } from "./conversation-settings";
import { Dialog } from "./dialog";
import { KeySettings } from "./key-settings";
import { StoredConversations } from "./stored-conversations";
import { ThemeSettings } from "./theme-settings";

export function SettingsDialog() {
  const conversation = useCurrent();
  // What is missing comes first, and stays there while it is mended.
  const [needsKey] = useState(connection.value.kind === "no key");
  return (
    <Dialog title="Settings">
      {needsKey && <KeySettings />}
      <ConversationSettings settings={conversation.settings} hasBegun={conversation.roots.length > 0} />
      <ThemeSettings />
      {!needsKey && <KeySettings />}
      <StoredConversations />
      <p class="about muted">
        Anser. The page is built with Preact and marked: <a href="licenses.txt">licences</a>.
      </p>
    </Dialog>
  );
}
