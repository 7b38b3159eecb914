// What is kept in the origin's private file system, as the page sees it.

import { FOLDER, type Kept } from "./kept.js";

/** A model that this site keeps. */
export interface CachedModel {
  /** What {@link load} was called with. */
  url: string;
  nBytes: number;
  /** Bytes that are here. A later {@link load} goes on with the rest. */
  loaded: number;
  isComplete: boolean;
}

async function entries(): Promise<{ name: string; kept: Kept; folder: FileSystemDirectoryHandle }[]> {
  const found: { name: string; kept: Kept; folder: FileSystemDirectoryHandle }[] = [];
  let folder: FileSystemDirectoryHandle;
  try {
    folder = await (await navigator.storage.getDirectory()).getDirectoryHandle(FOLDER);
  } catch {
    return found;
  }
  for await (const [name, handle] of (folder as unknown as { entries(): AsyncIterable<[string, FileSystemHandle]> }).entries()) {
    if (handle.kind !== "file" || !name.endsWith(".json")) continue;
    try {
      const text = await (await (handle as FileSystemFileHandle).getFile()).text();
      found.push({ name: name.slice(0, -".json".length), kept: JSON.parse(text) as Kept, folder });
    } catch {
      // Notes that a crash has cut short, or that another tab writes now.
    }
  }
  return found;
}

/** The models that this site keeps, downloads that were interrupted among them. */
export async function cached(): Promise<CachedModel[]> {
  return (await entries()).map(({ kept: { url, nBytes, done } }) => {
    const loaded = done.reduce((sum, n) => sum + n, 0);
    return { url, nBytes, loaded, isComplete: loaded === nBytes };
  });
}

/** Removes what is kept of `url`; whether there was something. It fails while another tab loads or reads it. */
export async function remove(url: string | URL): Promise<boolean> {
  const whole = absolute(url);
  const found = (await entries()).filter(({ kept }) => kept.url === whole);
  for (const { name, folder } of found) {
    await folder.removeEntry(`${name}.json`);
    await folder.removeEntry(`${name}.data`).catch(() => {});
  }
  return found.length > 0;
}

/** A URL as it is kept. @internal */
export function absolute(url: string | URL): string {
  return new URL(url, document.baseURI).href;
}
