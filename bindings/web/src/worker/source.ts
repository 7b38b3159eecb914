// Where a model's bytes come from, one interface for all.

import { AnserError } from "../errors.js";
import type { WireSource } from "../protocol.js";
import type { CacheChoice } from "../types.js";
import { openDownload, streamed } from "./download.js";
import type { Context } from "./engine.js";
import { fileAt, reading } from "./store.js";

/** A file whose bytes can be read. */
export interface Source {
  name: string;
  nBytes: number;
  notices: string[];
  /**
   * Fills `into` at once, where that can be, and returns how many bytes there were: the engine then reads what it needs when it needs it,
   * into its own memory.
   */
  read?(offset: number, into: Uint8Array): number;
  /** Gets bytes ready that {@link Source.read} is asked for next, where that is better than reading them at once. */
  prepare?(offset: number, length: number): Promise<void>;
  /** All bytes, in order, in pieces of at most `n` bytes or as they come. */
  pieces(n: number): AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
  close(): void;
}

/** The source; what is not here yet is downloaded. */
export async function openSource(source: WireSource, cache: CacheChoice, context: Context): Promise<Source> {
  if ("blob" in source) return ofBlob(source.name, source.blob);
  if ("opfs" in source) return ofKept(source.opfs, await fileAt(source.opfs));
  if (cache === "none") return streamed(source.url, [], context);
  return openDownload(source.url, cache, context);
}

/** A file of the user, or one that the browser holds. */
export function ofBlob(name: string, blob: Blob): Source {
  const pieces = new BlobPieces(blob);
  const refused = (cause: unknown) => new AnserError("model", `${name}: the file cannot be read: it was moved or changed`, { cause });
  return {
    name,
    nBytes: blob.size,
    notices: [],
    read(offset, into) {
      const piece = pieces.taken(offset, into.length) ?? new Uint8Array(new FileReaderSync().readAsArrayBuffer(blob.slice(offset, offset + into.length)));
      into.set(piece);
      return piece.length;
    },
    async prepare(offset, length) {
      // What is small is not worth the wait.
      if (length >= MIN_PREPARED) await pieces.bring(offset, length);
    },
    async *pieces(n) {
      for (let start = 0; start < blob.size; start += n) {
        yield await pieces.bring(start, Math.min(n, blob.size - start)).catch((cause: unknown) => {
          throw refused(cause);
        });
      }
    },
    close() {},
  };
}

/** The least bytes that are brought into memory which is used again. */
const MIN_PREPARED = 64 << 10;

/**
 * Pieces of a blob, one at a time, in memory that is used again and again. What a `FileReaderSync` or `Blob.arrayBuffer` returns is new
 * memory outside the heap, which browsers collect late: reading a large file so takes as much memory as the file has bytes.
 */
class BlobPieces {
  readonly #blob: Blob;
  #memory = new ArrayBuffer(0);
  #start = 0;
  #length = 0;

  constructor(blob: Blob) {
    this.#blob = blob;
  }

  async bring(start: number, length: number): Promise<Uint8Array> {
    this.#length = 0;
    if (this.#memory.byteLength < length) this.#memory = new ArrayBuffer(length);
    const piece = this.#blob.slice(start, start + length);
    const reader = intoBuffers(piece.stream());
    let n = 0;
    if (reader) {
      while (n < length) {
        const { value, done } = await reader.read(new Uint8Array(this.#memory, n, length - n));
        if (value) this.#memory = value.buffer;
        if (done) break;
        n += value.length;
      }
      await reader.cancel();
    } else {
      this.#memory = await piece.arrayBuffer();
      n = this.#memory.byteLength;
    }
    [this.#start, this.#length] = [start, n];
    return new Uint8Array(this.#memory, 0, n);
  }

  /** The bytes, if they were brought last. */
  taken(start: number, length: number): Uint8Array | null {
    const at = start - this.#start;
    return at >= 0 && at + length <= this.#length ? new Uint8Array(this.#memory, at, length) : null;
  }
}

/**
 * A file of the origin's private file system. In a browser without handles that are for reading alone (Firefox), where another tab has the
 * file open, it is read as a blob.
 */
export async function ofKept(name: string, file: FileSystemFileHandle): Promise<Source> {
  try {
    return ofHandle(name, await reading(file));
  } catch (thrown) {
    if (!(thrown instanceof DOMException && thrown.name === "NoModificationAllowedError")) throw thrown;
    return ofBlob(name, await file.getFile());
  }
}

/** A file that is read without copies on the way. */
function ofHandle(name: string, handle: FileSystemSyncAccessHandle): Source {
  const nBytes = handle.getSize();
  return {
    name,
    nBytes,
    notices: [],
    read: (offset, into) => handle.read(into, { at: offset }),
    *pieces(n) {
      const piece = new Uint8Array(n);
      for (let at = 0; at < nBytes; ) {
        const length = handle.read(piece.subarray(0, Math.min(n, nBytes - at)), { at });
        if (length === 0) throw new AnserError("model", `${name}: it ends after ${at} of ${nBytes} bytes`);
        yield piece.subarray(0, length);
        at += length;
      }
    },
    close: () => handle.close(),
  };
}

/** A reader that fills given buffers; null where the browser has none for blobs. */
function intoBuffers(stream: ReadableStream<Uint8Array<ArrayBuffer>>): ReadableStreamBYOBReader | null {
  try {
    return stream.getReader({ mode: "byob" });
  } catch {
    return null;
  }
}
