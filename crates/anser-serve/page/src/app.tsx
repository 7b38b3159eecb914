import { useEffect } from "preact/hooks";
import { ChatView } from "./chat/chat-view";
import { CompletionView } from "./completion/completion-view";
import { announcement, running, stop } from "./conversations/generation";
import { current } from "./current";
import { SaveStateDialog } from "./dialogs/save-state-dialog";
import { SettingsDialog } from "./dialogs/settings-dialog";
import { NoticeBar } from "./notice-bar";
import { view } from "./router";
import { closeMenu, dialog, isMenuOpen, openMenu } from "./shell";
import { Sidebar } from "./sidebar/sidebar";
import { StatesView } from "./states/states-view";
import { useStore } from "./store";

export function App() {
  const kind = useStore(view, (shown) => shown.kind);
  const opened = useStore(dialog, (name) => name);
  const hasMenu = useStore(isMenuOpen, (open) => open);
  const spoken = useStore(announcement, (text) => text);
  useEffect(() => {
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
  return (
    <div class={hasMenu ? "page has-menu" : "page"}>
      <Sidebar />
      {hasMenu && <button type="button" class="scrim" aria-label="Close the menu" onClick={closeMenu} />}
      <main class="view" inert={hasMenu}>
        {kind === "chat" && <ChatView />}
        {kind === "completion" && <CompletionView />}
        {kind === "states" && <StatesView />}
      </main>
      {opened === "settings" && <SettingsDialog />}
      {opened === "save state" && <SaveStateDialog />}
      <NoticeBar />
      <div class="hidden" role="status" aria-live="polite">
        {spoken}
      </div>
    </div>
  );
}

/** The keys that work everywhere. */
function onKey(event: KeyboardEvent): void {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k" && dialog.value === null) {
    event.preventDefault();
    openMenu("#search");
  } else if (event.key === "Escape" && dialog.value === null && !event.defaultPrevented) {
    if (isMenuOpen.value) closeMenu();
    else if (running.value.has(current().id)) stop(current().id);
  }
}
