// A short message at the edge of the page.

import { Store } from "./store";

export interface Notice {
  text: string;
  action?: { label: string; act: () => void };
}

/** How long a notice is shown, in milliseconds. */
const SHOWN_TIME = 10_000;

export const notice = new Store<Notice | null>(null);

export function notify(next: Notice): void {
  notice.set(next);
  setTimeout(() => dismiss(next), SHOWN_TIME);
}

export function dismiss(shown: Notice): void {
  if (notice.value === shown) notice.set(null);
}
