// What lies over the page: a dialog, or on narrow windows the menu.

import { Store } from "./store";

export type DialogName = "settings" | "save state";

export const dialog = new Store<DialogName | null>(null);
export const isMenuOpen = new Store(false);

/** Windows of this width show the menu beside the view; the style sheet says so, too. */
const WIDE = matchMedia("(width >= 56rem)");

/** Closes the menu when the window becomes wide enough to show it beside the view. */
export function watchWidth(): void {
  WIDE.addEventListener("change", () => isMenuOpen.set(false));
}

/** Moves the focus to the menu, which a narrow window opens first. `target`: a selector of what gets the focus. */
export function openMenu(target: string): void {
  const focus = () => document.querySelector<HTMLElement>(target)?.focus();
  if (WIDE.matches) {
    focus();
  } else {
    isMenuOpen.set(true);
    // What is not shown yet takes no focus.
    requestAnimationFrame(focus);
  }
}

/** Closes the menu of a narrow window, and gives the focus back to its button. */
export function closeMenu(): void {
  if (!isMenuOpen.value) return;
  isMenuOpen.set(false);
  requestAnimationFrame(() => document.querySelector<HTMLElement>(".menu-button")?.focus());
}
