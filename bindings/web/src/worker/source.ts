// Where a model's bytes come from, one interface for all.

import { AnserError } from "../errors.js";
import type { WireSource } from "../protocol.js";
import type { CacheChoice } from "../types.js";
import { openDownload, streamed } from "./download.js";
import type { Context } from "./engine.js";
import { openFile } from "./store.js";

/** A file whose bytes can be read. */
export interface Source {
  name: string;
  nBytes: number;
  notices: string[];
  /** Bytes at once, where that can be: the engine then reads what it needs when it needs it. */
  read?(offset: number, length: number): Uint8Array;
  /** All bytes, in order, in pieces of at most `n` bytes or as they come. */
  pieces(n: number): AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
  close(): void;
}

/** The source; what is not here yet is downloaded. */
export async function openSource(source: WireSource, cache: CacheChoice, context: Context): Promise<Source> {
  if ("blob" in source) return ofBlob(source.name, source.blob);
  if ("opfs" in source) return ofHandle(source.opfs, await openFile(source.opfs), []);
  if (cache === "none") return streamed(source.url, [], context);
  return openDownload(source.url, cache, context);
}

/** A file of the user, or one that the browser holds. */
export function ofBlob(name: string, blob: Blob): Source {
  return {
    name,
    nBytes: blob.size,
    notices: [],
    read: (offset, length) => new Uint8Array(new FileReaderSync().readAsArrayBuffer(blob.slice(offset, offset + length))),
    async *pieces(n) {
      for (let start = 0; start < blob.size; start += n) {
        const piece = await blob
          .slice(start, start + n)
          .arrayBuffer()
          .catch((cause: unknown) => {
            throw new AnserError("model", `${name}: the file cannot be read: it was moved or changed`, { cause });
          });
        yield new Uint8Array(piece);
      }
    },
    close() {},
  };
}

/** A file of the origin's private file system, read without copies on the way. */
export function ofHandle(name: string, handle: FileSystemSyncAccessHandle, notices: string[]): Source {
  const nBytes = handle.getSize();
  return {
    name,
    nBytes,
    notices,
    read(offset, length) {
      const bytes = new Uint8Array(length);
      return bytes.subarray(0, handle.read(bytes, { at: offset }));
    },
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
