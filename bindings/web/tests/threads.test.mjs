// The processor with threads, in a page that is cross-origin isolated.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test as nodeTest } from "node:test";
import { anser, answerWithoutNetwork, browserFor, DEMO, difference, test } from "./harness.mjs";

const isBuilt = existsSync(new URL("../dist/engine/anser_web_threads_bg.wasm", import.meta.url));
if (isBuilt) cases();
else nodeTest.skip("threads: this package was built without them");

function cases() {
  const shared = browserFor({ args: ["--disable-features=WebGPU"], isolated: true });
  const PROMPT = "User: Tell me a story about a fox.\n\nAssistant:";
  const N_VOCAB = 65536;

  test(shared, "three threads compute what the command computes", async (page) => {
    const found = await page.evaluate(async (text) => {
      const { threads } = await anser.probe();
      const model = await anser.load("/models/demo-q8_0.gguf", { exact: true, threads: 3 });
      const session = await model.session();
      const { logits } = await session.feed(text, { logits: "last" });
      const prompts = ["Once upon a time", "User: What is 17 + 26?\n\nAssistant:"];
      const one = async (model, prompt) => (await model.session()).generate(prompt, { sampling: { preset: "greedy" }, maxTokens: 40 }).text();
      const together = await Promise.all(prompts.map((prompt) => one(model, prompt)));
      const alone = await anser.load("/models/demo-q8_0.gguf", { exact: true, threads: 1 });
      const sessionAlone = await alone.session();
      const expected = await sessionAlone.feed(text, { logits: "last" });
      const texts = [await one(alone, prompts[0]), await one(alone, prompts[1])];
      const devices = [model.info.device, alone.info.device];
      // Its threads end with it, and others start.
      await model.close();
      const again = await anser.load("/models/demo-q8_0.gguf", { threads: 2 });
      devices.push(again.info.device);
      const third = await one(again, prompts[1]);
      const wrong = await anser.load("/models/demo-q8_0.gguf", { threads: 0 }).catch(({ code }) => code);
      await alone.close();
      await again.close();
      return { threads, devices, logits: [...logits], expected: [...expected.logits], together, texts, third, wrong };
    }, PROMPT);
    assert.equal(found.threads, true);
    assert.deepEqual(found.devices.map((device) => /^CPU, (\d+) threads?/.exec(device)?.[1]), ["3", "1", "2"]);
    assert.equal(difference(found.logits, found.expected), 0, "every sum has one order, whatever thread computes it");
    const { top } = JSON.parse(await anser("logits", "-m", DEMO, "--device", "cpu", "--exact", "--text", PROMPT, "--top", String(N_VOCAB)));
    const native = new Array(N_VOCAB).fill(NaN);
    for (const [id, logit] of top) native[id] = logit;
    const relative = difference(found.logits, native) / Math.max(...native.map(Math.abs));
    assert.ok(relative < 1e-5, `they differ by ${relative} of the largest`);
    assert.deepEqual(found.together, found.texts);
    assert.match(found.third, /43/);
    assert.equal(found.wrong, "option");
  });

  const page = async (page) => {
    const tabs = page.getByRole("tablist");
    const button = page.getByRole("button", { name: /Load the demo model/ });
    await tabs.or(button).first().waitFor();
    if (await button.isVisible()) await button.click();
    await tabs.waitFor();
    await page.evaluate(() => navigator.serviceWorker.ready);
    await page.waitForFunction(() => navigator.serviceWorker.controller !== null);
    assert.ok((await answerWithoutNetwork(page, shared.context)).length > 0);
    assert.equal(await page.evaluate(() => crossOriginIsolated), true);
  };
  test(shared, "the demo page has its threads without a network, too", page, { path: "/demo/index.html", chromiumOnly: true });
}
