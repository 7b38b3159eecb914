// The engine on WebGPU, on Chromium's adapter in software: it says nothing about speed.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { anser, browserFor, DEMO, difference, SOFTWARE_GPU, test } from "./harness.mjs";

const shared = browserFor({ args: SOFTWARE_GPU });
const PROMPT = "User: What is 17 + 26?\n\nAssistant:";
const N_VOCAB = 65536;

test(shared, "a GPU computes what the command computes, and draws the same tokens as the host", async (page) => {
  const found = await page.evaluate(async (text) => {
    const progress = [];
    const model = await anser.load("/models/demo-q8_0.gguf", { device: "webgpu:0", exact: true, onProgress: ({ phase }) => progress.push(phase) });
    const session = await model.session();
    const { logits } = await session.feed(text);
    const generate = async (options) => {
      await session.reset();
      const generation = session.generate(text, { sampling: { preset: "greedy" }, maxTokens: 4, ...options });
      await generation.text();
      return [...(await generation.finished).tokens];
    };
    const onDevice = await generate({});
    // The host draws where probabilities are reported.
    const onHost = await generate({ probabilities: 2 });
    const sampling = { preset: "plain", temperature: 1.2, seed: 7 };
    const sampled = [await generate({ sampling }), await generate({ sampling, probabilities: 1 })];
    await session.reset();
    await session.feed("Once upon a time");
    const state = await session.state();
    const next = await session.feed(" there");
    const other = await model.session();
    await other.restore(state);
    const again = await other.feed(" there");
    const file = await session.save();
    await other.open(file);
    const memory = await model.memory();
    const info = model.info;
    await model.close();
    return { logits: [...logits], onDevice, onHost, sampled, next: [...next.logits], again: [...again.logits], memory, info, phases: [...new Set(progress)] };
  }, PROMPT);
  assert.equal(found.info.onGpu, true);
  const { top } = JSON.parse(await anser("logits", "-m", DEMO, "--device", "cpu", "--exact", "--text", PROMPT, "--top", String(N_VOCAB)));
  const expected = new Array(N_VOCAB).fill(NaN);
  for (const [id, logit] of top) expected[id] = logit;
  const relative = difference(found.logits, expected) / Math.max(...expected.map(Math.abs));
  assert.ok(relative < 1e-5, `they differ by ${relative} of the largest`);
  assert.ok(found.onDevice.length > 0);
  assert.deepEqual(found.onDevice, found.onHost);
  assert.deepEqual(found.sampled[0], found.sampled[1]);
  assert.ok(difference(found.next, found.again) < 1e-3);
  assert.ok(found.memory < 40 << 20, `the weights are on the device alone, but the engine has taken ${found.memory} bytes`);
  assert.deepEqual(found.phases, ["download", "upload"]);
});

test(shared, "what the engine takes does not grow with the file", async (page) => {
  const folder = await mkdtemp(join(tmpdir(), "anser-sizes-"));
  try {
    await page.evaluate(() => document.body.append(Object.assign(document.createElement("input"), { type: "file" })));
    const sizes = [];
    for (const layers of ["2", "12"]) {
      const file = join(folder, `${layers}.gguf`);
      execFileSync(join(dirname(process.env.ANSER), "anser-synth"), ["0.1b", file, "--layers", layers, "--type", "q4_k_m"], { stdio: "ignore" });
      await page.locator("input").setInputFiles(file);
      const memory = await page.evaluate(async () => {
        const model = await anser.load(document.querySelector("input").files[0], { device: "webgpu:0" });
        const memory = await model.memory();
        await model.close();
        return memory;
      });
      sizes.push({ memory, file: (await stat(file)).size });
    }
    const [few, many] = sizes;
    assert.ok(many.file - few.file > 40 << 20, "the files differ");
    assert.ok(Math.abs(many.memory - few.memory) < 4 << 20, `${few.memory} and ${many.memory} bytes of memory`);
    assert.ok(many.memory < 40 << 20, `${many.memory} bytes`);
  } finally {
    await rm(folder, { recursive: true });
  }
});

test(shared, "`auto` takes no GPU in software", async (page) => {
  const device = await page.evaluate(async () => {
    const model = await anser.load("/models/demo-q8_0.gguf");
    await model.close();
    return model.info.device;
  });
  assert.match(device, /^CPU/);
});

test(shared, "a lost device is told", async (page) => {
  const codes = await page.evaluate(async () => {
    const worker = () => new Worker("/lost-worker.js", { type: "module" });
    const model = await anser.load("/models/demo-q8_0.gguf", { device: "webgpu:0", worker });
    const session = await model.session();
    new BroadcastChannel("lose").postMessage(null);
    const codes = [];
    // The worker hears of it a moment later.
    for (let i = 0; i < 50 && codes.length < 2; i++) {
      await session.feed("x", { logits: "none" }).catch((error) => codes.push(error.code));
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await model.close();
    return codes;
  });
  assert.deepEqual(codes, ["lost", "lost"]);
  // In Firefox the device's buffers fail first.
}, { chromiumOnly: true });
