// Files of the origin's private file system. Sync handles, which are fast, exist in workers alone.

import { AnserError } from "../errors.js";
import { FOLDER, type Kept } from "../kept.js";

/** The folder of the package; null where the browser has none (private windows of some). */
export async function folder(): Promise<FileSystemDirectoryHandle | null> {
  try {
    const root = await navigator.storage.getDirectory();
    return await root.getDirectoryHandle(FOLDER, { create: true });
  } catch {
    return null;
  }
}

/** A file for reading. Several workers may read it where the browser has handles for that; elsewhere the second one is refused. */
export async function reading(file: FileSystemFileHandle): Promise<FileSystemSyncAccessHandle> {
  const open = file.createSyncAccessHandle as (options?: { mode: string }) => Promise<FileSystemSyncAccessHandle>;
  return open.call(file, { mode: "read-only" });
}

/** The file at `path` in the origin's private file system. */
export async function fileAt(path: string): Promise<FileSystemFileHandle> {
  try {
    const names = path.split("/").filter((name) => name !== "");
    let at = await navigator.storage.getDirectory();
    for (const name of names.slice(0, -1)) at = await at.getDirectoryHandle(name);
    return await at.getFileHandle(names.at(-1) ?? "");
  } catch (cause) {
    throw new AnserError("model", `${path}: no such file in this site's private file system`, { cause });
  }
}

/** A download's notes: what it is, and what of it is here. */
export class Notes {
  readonly #handle: FileSystemSyncAccessHandle;

  private constructor(handle: FileSystemSyncAccessHandle) {
    this.#handle = handle;
  }

  static async open(folder: FileSystemDirectoryHandle, key: string): Promise<Notes> {
    const file = await folder.getFileHandle(`${key}.json`, { create: true });
    return new Notes(await file.createSyncAccessHandle());
  }

  /** The notes; null if there are none, or a crash has cut them short. */
  read(): Kept | null {
    const bytes = new Uint8Array(this.#handle.getSize());
    this.#handle.read(bytes, { at: 0 });
    try {
      return JSON.parse(new TextDecoder().decode(bytes)) as Kept;
    } catch {
      return null;
    }
  }

  write(kept: Kept): void {
    const bytes = new TextEncoder().encode(JSON.stringify(kept));
    this.#handle.write(bytes, { at: 0 });
    this.#handle.truncate(bytes.length);
    this.#handle.flush();
  }

  close(): void {
    this.#handle.close();
  }
}

/** A name for what a URL leads to. */
export async function keyOf(url: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(url));
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
