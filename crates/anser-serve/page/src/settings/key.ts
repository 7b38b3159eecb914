// The key that requests carry.

import { Store } from "../store";

const NAME = "anser-key";

/** Empty if the server needs none. It is kept until the tab is closed, or for good if the user says so. */
export const key = new Store(sessionStorage.getItem(NAME) ?? localStorage.getItem(NAME) ?? "");

export function isKeyRemembered(): boolean {
  return localStorage.getItem(NAME) !== null;
}

export function setKey(value: string, isRemembered: boolean): void {
  sessionStorage.removeItem(NAME);
  localStorage.removeItem(NAME);
  if (value !== "") (isRemembered ? localStorage : sessionStorage).setItem(NAME, value);
  key.set(value);
}
