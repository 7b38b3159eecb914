// Conversations in the browser's IndexedDB, a record for each.

import type { Conversation } from "./tree";

const STORE = "conversations";

let opened: Promise<IDBDatabase> | undefined;

function open(): Promise<IDBDatabase> {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open("anser", 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opened;
}

async function inStore<T>(mode: IDBTransactionMode, act: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  const database = await open();
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(STORE, mode);
    const request = act(transaction.objectStore(STORE));
    // Without waiting for an event that a page which is being closed gets no more.
    transaction.commit();
    transaction.oncomplete = () => resolve(request.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}

export function readAll(): Promise<Conversation[]> {
  return inStore<Conversation[]>("readonly", (store) => store.getAll());
}

export function read(id: string): Promise<Conversation | undefined> {
  return inStore<Conversation | undefined>("readonly", (store) => store.get(id));
}

export async function write(conversation: Conversation): Promise<void> {
  await inStore("readwrite", (store) => store.put(conversation));
}

export async function erase(id: string): Promise<void> {
  await inStore("readwrite", (store) => store.delete(id));
}
