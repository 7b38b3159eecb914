// Downloads: ranges of a file into the origin's private file system, so that what has arrived outlives the page.

import { AnserError, cancelled } from "../errors.js";
import { PIECE_LEN, type Kept } from "../kept.js";
import type { CacheChoice } from "../types.js";
import type { Context } from "./engine.js";
import { ofKept, type Source } from "./source.js";
import { folder, keyOf, Notes } from "./store.js";

/** Ranges that are requested at a time. */
const N_AT_A_TIME = 4;
/** Bytes after which the notes are written anew. */
const NOTE_N_BYTES = 4 << 20;
/** Attempts to get more of a piece, each after twice the time of the last one. An attempt that brings bytes begins the count anew. */
const N_ATTEMPTS = 5;
const FIRST_PAUSE_MS = 250;

/** The file is not the one that was begun. */
class Changed extends Error {}

/** The file at `url`: kept, or downloaded now. */
export async function openDownload(url: string, cache: CacheChoice, context: Context): Promise<Source> {
  const place = await folder();
  if (!place) {
    const reason = "this browser keeps no files for this site (a private window?)";
    if (cache === "opfs") throw new AnserError("quota", `${url}: ${reason}`);
    return streamed(url, [`${reason}: the model is downloaded again next time`], context);
  }
  const key = await keyOf(url);
  // Another tab may be loading it: then this one waits and finds it complete.
  return navigator.locks.request(`anser:${key}`, { signal: context.signal }, async () => {
    try {
      await fill(place, key, url, context);
    } catch (thrown) {
      if (!isQuota(thrown)) throw thrown;
      await forget(place, key);
      const text = `${url}: the browser gives this site too little room to keep it`;
      if (cache === "opfs") throw new AnserError("quota", text, { cause: thrown });
      return streamed(url, [`${text}: it is downloaded again next time`], context);
    }
    return ofKept(nameOf(url), await place.getFileHandle(`${key}.data`));
  });
}

/** The file at `url` as it arrives; nothing is kept. */
export async function streamed(url: string, notices: string[], context: Context): Promise<Source> {
  const response = await request(url, {}, context.signal);
  if (!response.ok || !response.body) throw refusal(url, response);
  const body = response.body;
  const total = Number(response.headers.get("content-length"));
  // Without a length, or with one of compressed bytes, the file is read whole first.
  const isKnown = total > 0 && response.headers.get("content-encoding") === null;
  const blob = isKnown ? null : await response.blob();
  const stream = blob?.stream() ?? body;
  const nBytes = blob?.size ?? total;
  return {
    name: nameOf(url),
    nBytes,
    notices,
    async *pieces() {
      const reader = stream.getReader();
      let loaded = 0;
      for (;;) {
        const { done, value } = await reader.read().catch((cause: unknown) => {
          throw context.signal.aborted ? cancelled(url) : unreachable(url, cause);
        });
        if (done) break;
        loaded += value.length;
        context.onProgress({ phase: "download", loaded, total: nBytes });
        yield value;
      }
    },
    close: () => void body.cancel().catch(() => {}),
  };
}

/** Brings what is missing of the file. */
async function fill(place: FileSystemDirectoryHandle, key: string, url: string, context: Context): Promise<void> {
  const notes = await Notes.open(place, key);
  try {
    const kept = notes.read();
    if (kept && isComplete(kept) && (await sizeOf(place, key)) === kept.nBytes) return;
    const data = await (await place.getFileHandle(`${key}.data`, { create: true })).createSyncAccessHandle();
    try {
      const isUsable = kept !== null && kept.url === url && kept.validator !== null && data.getSize() === kept.nBytes;
      if (isUsable) {
        try {
          return await bring(url, kept, data, notes, context);
        } catch (thrown) {
          if (!(thrown instanceof Changed)) throw thrown;
        }
      }
      await begin(url, data, notes, context);
    } finally {
      data.close();
    }
  } finally {
    notes.close();
  }
}

/** Downloads a file of which nothing is here. */
async function begin(url: string, data: FileSystemSyncAccessHandle, notes: Notes, context: Context): Promise<void> {
  // The first request tells whether the server gives ranges, and how long the file is.
  const controller = new AbortController();
  const response = await request(url, { range: `bytes=0-${PIECE_LEN - 1}` }, AbortSignal.any([context.signal, controller.signal]));
  if (!response.ok || !response.body) throw refusal(url, response);
  const range = /^bytes 0-\d+\/(\d+)$/.exec(response.headers.get("content-range") ?? "");
  if (response.status !== 206 || !range) return whole(url, response, data, notes, context);
  const nBytes = Number(range[1]);
  const kept: Kept = { url, nBytes, validator: validatorOf(response), done: [] };
  for (let start = 0; start < nBytes; start += PIECE_LEN) kept.done.push(0);
  try {
    await room(url, nBytes, data);
  } catch (thrown) {
    controller.abort();
    throw thrown;
  }
  notes.write(kept);
  await bring(url, kept, data, notes, context, response);
}

/** Downloads the pieces that are missing, several at a time. `first` is the answer to a request for the first one. */
async function bring(
  url: string,
  kept: Kept,
  data: FileSystemSyncAccessHandle,
  notes: Notes,
  context: Context,
  first?: Response,
): Promise<void> {
  const failed = new AbortController();
  const signal = AbortSignal.any([context.signal, failed.signal]);
  const tell = () => context.onProgress({ phase: "download", loaded: sum(kept.done), total: kept.nBytes });
  const write = () => {
    data.flush();
    notes.write(kept);
  };
  let unnoted = 0;
  const take = (piece: number, bytes: Uint8Array) => {
    const at = piece * PIECE_LEN + (kept.done[piece] ?? 0);
    const room = Math.min((piece + 1) * PIECE_LEN, kept.nBytes) - at;
    if (bytes.length > room) throw new AnserError("network", `${url}: the server sends more bytes than the range has`);
    const n = data.write(bytes as Uint8Array<ArrayBuffer>, { at });
    if (n < bytes.length) throw new DOMException("the file system is full", "QuotaExceededError");
    kept.done[piece] = (kept.done[piece] ?? 0) + n;
    unnoted += n;
    if (unnoted >= NOTE_N_BYTES) {
      write();
      unnoted = 0;
    }
    tell();
  };
  tell();
  let next = 0;
  let given = first;
  const work = async () => {
    while (next < kept.done.length) {
      const piece = next++;
      const answer = given;
      given = undefined;
      await pieceOf(url, kept, piece, signal, (bytes) => take(piece, bytes), answer);
    }
  };
  const workers = Array.from({ length: N_AT_A_TIME }, async () => {
    try {
      await work();
    } catch (thrown) {
      failed.abort();
      throw thrown;
    }
  });
  const ends = await Promise.allSettled(workers);
  write();
  const reasons = ends.flatMap((end) => (end.status === "rejected" ? [end.reason as unknown] : []));
  if (reasons.length === 0) return;
  if (context.signal.aborted) throw cancelled(url);
  // The others ended because of it.
  throw reasons.find((reason) => !(reason instanceof AnserError && reason.code === "cancelled")) ?? reasons[0];
}

/** Downloads the rest of one piece. */
async function pieceOf(
  url: string,
  kept: Kept,
  piece: number,
  signal: AbortSignal,
  take: (bytes: Uint8Array) => void,
  answer: Response | undefined,
): Promise<void> {
  const end = Math.min((piece + 1) * PIECE_LEN, kept.nBytes);
  const at = () => piece * PIECE_LEN + (kept.done[piece] ?? 0);
  let given = answer;
  for (let attempt = 1; at() < end; attempt++) {
    const before = at();
    try {
      const response = given ?? (await ranged(url, kept, at(), end, signal));
      given = undefined;
      const reader = (response.body as ReadableStream<Uint8Array>).getReader();
      for (;;) {
        const { done, value } = await reader.read().catch((cause: unknown) => {
          throw unreachable(url, cause);
        });
        if (done) break;
        take(value);
      }
      if (at() < end) throw unreachable(url, `the answer ended ${end - at()} bytes early`);
    } catch (thrown) {
      if (signal.aborted) throw cancelled(url);
      if (!(thrown instanceof AnserError) || thrown.code !== "network") throw thrown;
      if (at() > before) attempt = 0;
      if (attempt >= N_ATTEMPTS) throw thrown;
      await pause(FIRST_PAUSE_MS * 2 ** Math.max(attempt - 1, 0), signal);
    }
  }
}

async function ranged(url: string, kept: Kept, start: number, end: number, signal: AbortSignal): Promise<Response> {
  const headers: Record<string, string> = { range: `bytes=${start}-${end - 1}` };
  if (kept.validator !== null) headers["if-range"] = kept.validator;
  const response = await request(url, headers, signal);
  // The server sends the whole file, since it is another one now.
  if (response.status === 200 || response.status === 416 || response.status === 412) throw new Changed();
  if (response.status !== 206 || !response.body) throw refusal(url, response);
  const range = response.headers.get("content-range");
  if (range !== `bytes ${start}-${end - 1}/${kept.nBytes}`) throw new Changed();
  return response;
}

/** Downloads from a server that gives no ranges: all of it in one answer. */
async function whole(url: string, response: Response, data: FileSystemSyncAccessHandle, notes: Notes, context: Context): Promise<void> {
  const total = Number(response.headers.get("content-length"));
  if (total > 0) await room(url, total, data);
  let at = 0;
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  for (;;) {
    const { done, value } = await reader.read().catch((cause: unknown) => {
      throw context.signal.aborted ? cancelled(url) : unreachable(url, cause);
    });
    if (done) break;
    const n = data.write(value as Uint8Array<ArrayBuffer>, { at });
    if (n < value.length) throw new DOMException("the file system is full", "QuotaExceededError");
    at += n;
    context.onProgress({ phase: "download", loaded: at, total: Math.max(total, at) });
  }
  data.truncate(at);
  data.flush();
  notes.write({ url, nBytes: at, validator: null, done: [at] });
}

/** Takes the room for the file, after a look at whether there is enough. */
async function room(url: string, nBytes: number, data: FileSystemSyncAccessHandle): Promise<void> {
  data.truncate(0);
  const { quota, usage } = await navigator.storage.estimate();
  if (quota !== undefined && usage !== undefined && nBytes > quota - usage) {
    throw new DOMException(`${url} has ${nBytes} bytes`, "QuotaExceededError");
  }
  data.truncate(nBytes);
}

async function forget(place: FileSystemDirectoryHandle, key: string): Promise<void> {
  for (const name of [`${key}.data`, `${key}.json`]) await place.removeEntry(name).catch(() => {});
}

async function sizeOf(place: FileSystemDirectoryHandle, key: string): Promise<number> {
  try {
    return (await (await place.getFileHandle(`${key}.data`)).getFile()).size;
  } catch {
    return -1;
  }
}

async function request(url: string, headers: Record<string, string>, signal: AbortSignal): Promise<Response> {
  try {
    return await fetch(url, { headers, signal });
  } catch (cause) {
    throw signal.aborted ? cancelled(url) : unreachable(url, cause);
  }
}

function unreachable(url: string, cause: unknown): AnserError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new AnserError("network", `${url}: the download was interrupted (${why}); load it again to go on`, { cause });
}

function refusal(url: string, response: Response): AnserError {
  return new AnserError("network", `${url}: the server answers ${response.status} ${response.statusText}`.trimEnd());
}

/** What `If-Range` may name: a strong ETag, else the time of change. */
function validatorOf(response: Response): string | null {
  const etag = response.headers.get("etag");
  return etag !== null && !etag.startsWith("W/") ? etag : response.headers.get("last-modified");
}

function isComplete(kept: Kept): boolean {
  return sum(kept.done) === kept.nBytes;
}

function isQuota(thrown: unknown): boolean {
  return thrown instanceof DOMException && thrown.name === "QuotaExceededError";
}

function nameOf(url: string): string {
  return decodeURIComponent(new URL(url).pathname.split("/").at(-1) ?? "") || url;
}

function sum(numbers: number[]): number {
  return numbers.reduce((total, n) => total + n, 0);
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
