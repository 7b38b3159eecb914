// Light or dark.

import { Store } from "../store";

export type Theme = "system" | "light" | "dark";

const NAME = "anser-theme";

const stored = localStorage.getItem(NAME);

export const theme = new Store<Theme>(stored === "light" || stored === "dark" ? stored : "system");

export function setTheme(value: Theme): void {
  localStorage.setItem(NAME, value);
  theme.set(value);
  applyTheme();
}

/** The style sheet has both; the root element says which one is used. */
export function applyTheme(): void {
  document.documentElement.dataset["theme"] = theme.value;
}
