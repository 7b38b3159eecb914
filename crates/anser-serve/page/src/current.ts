// The conversation that is shown, which is kept when it gets its first message.

import { stop } from "./conversations/generation";
import { change, changeSettings, find, keep, library, remove } from "./conversations/library";
import { type Conversation, newConversation } from "./conversations/tree";
import { show, view } from "./router";
import { keepUsualSettings, type Settings, usualSettings } from "./settings/conversation";
import { Store, useStore } from "./store";

/** A conversation without messages. */
const draft = new Store<Conversation>(newConversation(usualSettings()));

function currentId(): string | null {
  return view.value.kind === "chat" ? view.value.id : null;
}

export function current(): Conversation {
  return find(currentId() ?? "") ?? draft.value;
}

/** The identifier of the shown conversation if it is kept. */
export function useCurrentId(): string | null {
  return useStore(view, (shown) => (shown.kind === "chat" ? shown.id : null));
}

export function useCurrent(): Conversation {
  const id = useCurrentId();
  const kept = useStore(library, (conversations) => conversations?.get(id ?? ""));
  const fresh = useStore(draft, (conversation) => conversation);
  return kept ?? fresh;
}

/** Shows a conversation without messages. `beginning`: the named state that it begins from, and the model that the state is of. */
export function beginConversation(beginning: Partial<Pick<Settings, "state" | "model">> = {}): void {
  draft.update((fresh) => ({ ...fresh, settings: { ...usualSettings(), ...beginning } }));
  show({ kind: "chat", id: null });
}

/** Keeps the shown conversation if it is a fresh one, since it gets a message. */
export function keepCurrent(): Conversation {
  const conversation = current();
  if (conversation === draft.value) {
    keep(conversation);
    show({ kind: "chat", id: conversation.id });
    draft.set(newConversation(usualSettings()));
  }
  return conversation;
}

export function changeCurrentSettings(changes: Partial<Settings>): void {
  const conversation = current();
  const settings = { ...conversation.settings, ...changes };
  if (conversation === draft.value) {
    keepUsualSettings(settings);
    draft.set({ ...conversation, settings });
  } else {
    changeSettings(conversation.id, settings);
  }
}

export function rename(id: string, title: string): void {
  change(id, (conversation) => ({ ...conversation, title: title.trim() }));
}

/** Deletes a conversation, which a notice can bring back. */
export function discard(id: string): void {
  const conversation = find(id);
  if (!conversation) return;
  stop(id);
  if (currentId() === id) beginConversation();
  remove([conversation]);
}

/** Deletes all conversations, which a notice can bring back. */
export function discardAll(): void {
  const all = [...(library.value?.values() ?? [])];
  for (const conversation of all) stop(conversation.id);
  beginConversation();
  remove(all);
}
