// The view that the address names, after its #.

import { Store } from "./store";

export type View = { kind: "chat"; id: string | null } | { kind: "completion" } | { kind: "states" };

export const view = new Store<View>(viewOf(location.hash));

export function startRouter(): void {
  addEventListener("hashchange", () => view.set(viewOf(location.hash)));
}

/** The address of a view. */
export function address(to: View): string {
  if (to.kind !== "chat") return `#/${to.kind}`;
  return to.id === null ? "#/" : `#/c/${to.id}`;
}

export function show(to: View): void {
  location.hash = address(to);
  view.set(to);
}

function viewOf(hash: string): View {
  if (hash === "#/completion") return { kind: "completion" };
  if (hash === "#/states") return { kind: "states" };
  return { kind: "chat", id: /^#\/c\/([0-9a-f]+)$/.exec(hash)?.[1] ?? null };
}
