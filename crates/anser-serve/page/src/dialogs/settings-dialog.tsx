import { useCurrent } from "../current";
import { ConversationSettings } from "./conversation-settings";
import { Dialog } from "./dialog";
import { KeySettings } from "./key-settings";
import { StoredConversations } from "./stored-conversations";
import { ThemeSettings } from "./theme-settings";

export function SettingsDialog() {
  const conversation = useCurrent();
  return (
    <Dialog title="Settings">
      <KeySettings />
      <ConversationSettings settings={conversation.settings} hasBegun={conversation.roots.length > 0} />
      <ThemeSettings />
      <StoredConversations />
    </Dialog>
  );
}
