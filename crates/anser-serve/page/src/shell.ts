// What lies over the page: a dialog, or on narrow windows the menu.

import { Store } from "./store";

export type DialogName = "settings" | "save state";

export const dialog = new Store<DialogName | null>(null);
export const isMenuOpen = new Store(false);

/** Closes the menu when the window becomes wide enough to show it beside the view. */
export function watchWidth(): void {
  matchMedia("(width >= 56rem)").addEventListener("change", () => isMenuOpen.set(false));
}

/** Moves the focus to the search of conversations. */
export function focusSearch(): void {
  isMenuOpen.set(true);
  requestAnimationFrame(() => {
    document.querySelector<HTMLInputElement>("#search")?.focus();
    if (matchMedia("(width >= 56rem)").matches) isMenuOpen.set(false);
  });
}
