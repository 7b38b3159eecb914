// Downloads that are cut, go on, change, or have no room.

import assert from "node:assert/strict";
import { stat } from "node:fs/promises";
import { browserFor, DEMO, test } from "./harness.mjs";

const shared = browserFor({ args: ["--disable-features=WebGPU"] });
const MODEL = "/models/demo-q8_0.gguf";
const isModel = (path) => path === MODEL;
const size = (await stat(DEMO)).size;

/** Loads the model as the page does; what it knows afterwards. */
function load(page, options = {}) {
  return page.evaluate(
    async ([url, options]) => {
      const seen = [];
      const model = await anser.load(url, { ...options, onProgress: (progress) => seen.push(progress) });
      const session = await model.session();
      const text = await session.generate("Once upon a time", { sampling: { preset: "greedy" }, maxTokens: 8 }).text();
      await model.close();
      const ofDownload = seen.filter(({ phase }) => phase === "download");
      return { text, notices: model.info.notices, progress: ofDownload, cached: await anser.cached() };
    },
    [MODEL, options],
  );
}

const forget = (page) => page.evaluate(async (url) => anser.remove(url), MODEL);
const asked = (server) => server.requests.filter(({ path }) => isModel(path));

test(shared, "a download is kept, and the next load asks for nothing", async (page, server) => {
  const first = await load(page);
  assert.equal(first.progress.at(-1).loaded, size);
  assert.equal(first.progress.at(-1).total, size);
  assert.ok(first.progress.every(({ loaded }, i) => i === 0 || loaded >= first.progress[i - 1].loaded));
  assert.deepEqual(first.cached.map(({ nBytes, loaded, isComplete }) => [nBytes, loaded, isComplete]), [[size, size, true]]);
  assert.equal(asked(server).length, 2, "32 MiB at a time");
  server.requests.length = 0;
  const second = await load(page);
  assert.deepEqual(asked(server), []);
  assert.equal(second.text, first.text);
  assert.equal(await forget(page), true);
  assert.equal(await forget(page), false);
  assert.deepEqual(await page.evaluate(() => anser.cached()), []);
});

test(shared, "an interrupted download goes on where it was", async (page, server) => {
  server.requests.length = 0;
  // Every answer is cut, and from the third one on the server is gone.
  server.misbehave = (request, response, path) => {
    if (!isModel(path)) return {};
    if (asked(server).length <= 2) return { cutAfter: 9 << 20 };
    request.socket.destroy();
    return true;
  };
  const failed = await page.evaluate(
    (url) =>
      anser.load(url).then(
        () => null,
        (error) => ({ code: error.code, message: error.message }),
      ),
    MODEL,
  );
  assert.equal(failed.code, "network");
  assert.match(failed.message, /load it again to go on/);
  const [{ loaded, isComplete }] = await page.evaluate(() => anser.cached());
  assert.equal(isComplete, false);
  assert.ok(loaded >= 9 << 20 && loaded < size, `${loaded}`);

  // A new page goes on, with the version that was begun.
  server.misbehave = null;
  server.requests.length = 0;
  await page.reload();
  await page.waitForFunction(() => globalThis.anser !== undefined);
  const whole = await load(page);
  assert.ok(whole.progress[0].loaded >= loaded);
  const requests = asked(server);
  assert.ok(requests.every(({ range, ifRange }) => range && ifRange));
  const firstByte = Math.min(...requests.map(({ range }) => Number(/\d+/.exec(range)[0])));
  assert.ok(firstByte > 0, "nothing is brought twice");
  assert.equal(whole.text, (await load(page, { cache: "none" })).text);
  await forget(page);
});

test(shared, "cut answers are asked for again without the caller", async (page, server) => {
  server.requests.length = 0;
  server.misbehave = (request, response, path) => (isModel(path) && asked(server).length < 6 ? { cutAfter: 5 << 20 } : {});
  const { cached } = await load(page);
  assert.equal(cached[0].isComplete, true);
  assert.ok(asked(server).length >= 6);
  await forget(page);
});

test(shared, "an aborted download is kept, and a file that has changed is brought anew", async (page, server) => {
  const aborted = await page.evaluate(async (url) => {
    const controller = new AbortController();
    const onProgress = ({ loaded }) => loaded > 6 << 20 && controller.abort();
    return anser.load(url, { signal: controller.signal, onProgress }).catch(({ name, code }) => [name, code]);
  }, MODEL);
  assert.deepEqual(aborted, ["AbortError", "cancelled"]);
  const [{ loaded, isComplete }] = await page.evaluate(() => anser.cached());
  assert.ok(loaded > 6 << 20 && !isComplete);
  server.misbehave = (request, response, path) => (isModel(path) ? { etag: '"another"' } : {});
  const { cached, progress } = await load(page);
  assert.equal(cached[0].isComplete, true);
  assert.ok(progress.some(({ loaded: now }) => now < loaded), "it begins anew");
  await forget(page);
});

test(shared, "a server without ranges", async (page, server) => {
  server.misbehave = (request, response, path) => (isModel(path) ? { ranges: false } : {});
  server.requests.length = 0;
  const { cached } = await load(page);
  assert.equal(cached[0].isComplete, true);
  assert.equal(asked(server).length, 1);
  await load(page);
  assert.equal(asked(server).length, 1);
  await forget(page);
});

test(shared, "too little room is said, and is an error where the file must be kept", async (page, server) => {
  const session = await shared.context.newCDPSession(page);
  await session.send("Storage.overrideQuotaForOrigin", { origin: server.url, quotaSize: 20 << 20 });
  try {
    const refused = await page.evaluate((url) => anser.load(url, { cache: "opfs" }).catch(({ code, message }) => ({ code, message })), MODEL);
    assert.equal(refused.code, "quota");
    assert.match(refused.message, /too little room to keep it/);
    const without = await load(page);
    assert.match(without.notices.join(), /downloaded again/);
    assert.deepEqual(without.cached, []);
  } finally {
    await session.send("Storage.overrideQuotaForOrigin", { origin: server.url });
  }
}, { chromiumOnly: true });

test(shared, "files of the user and of the private file system", async (page) => {
  const texts = await page.evaluate(async (url) => {
    const blob = await (await fetch(url)).blob();
    const root = await navigator.storage.getDirectory();
    const folder = await root.getDirectoryHandle("own", { create: true });
    const handle = await folder.getFileHandle("mine.gguf", { create: true });
    await blob.stream().pipeTo(await handle.createWritable());
    const texts = [];
    for (const source of [new File([blob], "mine.gguf"), { opfs: "own/mine.gguf" }]) {
      const model = await anser.load(source);
      const session = await model.session();
      texts.push([model.info.name, await session.generate("Once upon a time", { sampling: { preset: "greedy" }, maxTokens: 8 }).text()]);
      await model.close();
    }
    const none = await anser.load({ opfs: "own/none.gguf" }).catch(({ code }) => code);
    await root.removeEntry("own", { recursive: true });
    return { texts, none };
  }, MODEL);
  assert.deepEqual(texts.texts[0], ["mine.gguf", texts.texts[1][1]]);
  assert.equal(texts.none, "model");
});

test(shared, "two tabs that load one model download it once", async (page, server) => {
  server.requests.length = 0;
  const other = await shared.context.newPage();
  await other.goto(`${server.url}/blank.html`);
  await other.waitForFunction(() => globalThis.anser !== undefined);
  const [one, two] = await Promise.all([load(page), load(other)]);
  await other.close();
  assert.equal(one.text, two.text);
  assert.equal(asked(server).length, 2);
});
