// Keeps the page's own files, so that it opens without a network. Models are kept by the package, in the origin's private file system.

const CACHE = "anser-page-" + __VERSION__;
const FILES = __FILES__;

/** The module with threads and its scripts, which only a page that is cross-origin isolated uses. */
const isThreaded = (file) => /(^|\/)(thread|threaded|anser_web_threads_bg)-/.test(file);

async function keep() {
  const cache = await caches.open(CACHE);
  const add = (files) => cache.addAll(files.map((file) => new Request(file, { cache: "no-cache" })));
  await add(FILES.filter((file) => !isThreaded(file)));
  const { headers } = await cache.match("./");
  if (headers.has("cross-origin-opener-policy") && headers.has("cross-origin-embedder-policy")) await add(FILES.filter(isThreaded));
  await skipWaiting();
}

addEventListener("install", (event) => event.waitUntil(keep()));

addEventListener("activate", (event) => {
  const isOld = (name) => name.startsWith("anser-page-") && name !== CACHE;
  event.waitUntil(
    caches
      .keys()
      .then((names) => Promise.all(names.filter(isOld).map((name) => caches.delete(name))))
      .then(() => clients.claim()),
  );
});

addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== location.origin || request.headers.has("range")) return;
  // The page is one file, whatever stands behind its address.
  const key = request.mode === "navigate" ? "./" : request;
  event.respondWith(caches.open(CACHE).then((cache) => cache.match(key, { ignoreSearch: true }).then((kept) => kept ?? fetch(request))));
});
