// The view that the address names, after its #.

import { Store } from "./store";

export type View = { kind: "chat"; id: string | null } | { kind: "completion" } | { kind: "states" };

export const view = new Store<View>(viewOf(location.hash));

/** The conversation that was shown last. */
export const lastChat = new Store<View>({ kind: "chat", id: null });

export function startRouter(): void {
  const follow = () => {
    const shown = viewOf(location.hash);
    view.set(shown);
    if (shown.kind === "chat") lastChat.set(shown);
  };
  follow();
  addEventListener("hashchange", follow);
}

/** The address of a view. */
export function address(to: View): string {
  if (to.kind !== "chat") return `#/${to.kind}`;
  return to.id === null ? "#/" : `#/c/${to.id}`;
}

export function show(to: View): void {
  location.hash = address(to);
  view.set(to);
  if (to.kind === "chat") lastChat.set(to);
}

function viewOf(hash: string): View {
  if (hash === "#/completion") return { kind: "completion" };
  if (hash === "#/states") return { kind: "states" };
  return { kind: "chat", id: /^#\/c\/([0-9a-f]+)$/.exec(hash)?.[1] ?? null };
}
