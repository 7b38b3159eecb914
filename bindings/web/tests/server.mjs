// A server of static files that gives ranges, and misbehaves where a test wants it to.

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm", ".css": "text/css", ".json": "application/json", ".webmanifest": "application/manifest+json", ".svg": "image/svg+xml" };

/** What makes a page cross-origin isolated. */
const ISOLATION = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp", "cross-origin-resource-policy": "same-origin" };

/**
 * Serves folders by the first part of the path: `{ name: folder }`. `requests` lists what was asked for; `misbehave`, if set, may answer a
 * request itself (it returns true then) or return options: `cutAfter` ends the connection after so many bytes, `etag` names another
 * version, `ranges: false` gives none. Pages are cross-origin isolated with `isolated`.
 */
export async function serve(folders, { isolated = false } = {}) {
  const state = { requests: [], misbehave: null, driver: null, url: "", close: () => {} };
  const server = createServer(async (request, response) => {
    const asked = new URL(request.url, "http://localhost").pathname;
    const pathname = asked.endsWith("/") ? `${asked}index.html` : asked;
    if (state.driver && pathname.startsWith("/driver/")) return state.driver(request, response, pathname);
    state.requests.push({ path: pathname, range: request.headers.range ?? null, ifRange: request.headers["if-range"] ?? null });
    const odd = state.misbehave?.(request, response, pathname) ?? {};
    if (odd === true) return;
    try {
      const [, first, ...rest] = normalize(pathname).split("/");
      const isFolder = first in folders;
      const file = join(folders[isFolder ? first : ""] ?? "/nowhere", ...(isFolder ? rest : [first, ...rest]));
      const { size, mtimeMs } = await stat(file);
      const etag = odd.etag ?? `"${size}-${mtimeMs}"`;
      const headers = { "content-type": TYPES[extname(file)] ?? "application/octet-stream", etag, "cache-control": "no-cache", ...(isolated ? ISOLATION : {}) };
      const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
      const isCurrent = !request.headers["if-range"] || request.headers["if-range"] === etag;
      let [start, end] = [0, size - 1];
      if (range && isCurrent && odd.ranges !== false) {
        [start, end] = [Number(range[1]), Math.min(range[2] === "" ? size - 1 : Number(range[2]), size - 1)];
        response.writeHead(206, { ...headers, "content-range": `bytes ${start}-${end}/${size}`, "content-length": end - start + 1 });
      } else {
        response.writeHead(200, { ...headers, "content-length": size });
      }
      const { cutAfter } = odd;
      if (cutAfter !== undefined && cutAfter < end - start + 1) {
        createReadStream(file, { start, end: start + cutAfter - 1 })
          .on("end", () => setTimeout(() => request.socket.destroy(), 20))
          .pipe(response, { end: false });
      } else {
        createReadStream(file, { start, end }).pipe(response);
      }
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  state.url = `http://127.0.0.1:${server.address().port}`;
  state.close = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  return state;
}
