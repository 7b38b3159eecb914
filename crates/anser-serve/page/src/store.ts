// Values that several parts of the page show.

import { useEffect, useState } from "preact/hooks";

/** A value with listeners, which are called after each change. */
export class Store<T> {
  #value: T;
  #listeners = new Set<() => void>();

  constructor(value: T) {
    this.#value = value;
  }

  get value(): T {
    return this.#value;
  }

  set(value: T): void {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    for (const listener of [...this.#listeners]) listener();
  }

  update(change: (value: T) => T): void {
    this.set(change(this.#value));
  }

  /** Calls `listener` after each change, until the returned function is called. */
  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

/** A part of a store's value; the component is rendered again when that part changes. */
export function useStore<T, P>(store: Store<T>, part: (value: T) => P): P {
  const [, render] = useState({});
  const now = part(store.value);
  useEffect(() => {
    let shown = now;
    const check = () => {
      const next = part(store.value);
      if (Object.is(next, shown)) return;
      shown = next;
      render({});
    };
    // The value may have changed between the rendering and this effect.
    check();
    return store.subscribe(check);
  });
  return now;
}
