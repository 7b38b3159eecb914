// The engine in the worker, against the same model in the command.

import assert from "node:assert/strict";
import { anser, browserFor, DEMO, difference, test } from "./harness.mjs";

const shared = browserFor({ args: ["--disable-features=WebGPU"] });
const PROMPT = "User: Tell me a story about a fox.\n\nAssistant:";
const N_VOCAB = 65536;

/** The logits after a text as the command computes them, by id. */
async function nativeLogits(text, ...args) {
  const { top } = JSON.parse(await anser("logits", "-m", DEMO, "--device", "cpu", "--text", text, "--top", String(N_VOCAB), ...args));
  const logits = new Array(N_VOCAB).fill(NaN);
  for (const [id, logit] of top) logits[id] = logit;
  return logits;
}

for (const exact of [false, true]) {
  test(shared, `logits are those of the command, exact: ${exact}`, async (page) => {
    const found = await page.evaluate(
      async ([text, exact]) => {
        const model = await anser.load("/models/demo-q8_0.gguf", { exact });
        const session = await model.session();
        const { logits, hidden } = await session.feed(text, { logits: "all", hidden: "last" });
        const last = await session.logits();
        const n = await session.nTokens();
        await model.close();
        return { logits: [...logits.slice(-last.length)], last: [...last], n, nAll: logits.length, nHidden: hidden.length };
      },
      [PROMPT, exact],
    );
    const expected = await nativeLogits(PROMPT, ...(exact ? ["--exact"] : []));
    // Sums are in another order; without `exact`, activations near the middle of two bytes are rounded to the other one.
    if (exact) {
      const largest = Math.max(...expected.map(Math.abs));
      const relative = difference(found.last, expected) / largest;
      assert.ok(relative < 1e-5, `they differ by ${relative} of the largest, ${largest}`);
    } else {
      const squares = (numbers) => numbers.reduce((sum, x) => sum + x * x, 0);
      const error = squares(found.last.map((x, i) => x - expected[i])) / squares(expected);
      assert.ok(error < 1e-4, `normalised mean squared error ${error}`);
    }
    assert.deepEqual(found.logits, found.last);
    assert.equal(found.nAll, found.n * N_VOCAB);
    assert.equal(found.nHidden, 256);
  });
}

test(shared, "without WebGPU the model runs on the processor, and greedy text is that of the command", async (page) => {
  const found = await page.evaluate(async (text) => {
    const { webgpu, opfs } = await anser.probe();
    const model = await anser.load("demo", { wasm: "/dist/engine/anser_web_bg.wasm" }).catch((error) => error.code);
    const loaded = await anser.load("/models/demo-q8_0.gguf");
    const session = await loaded.session();
    const generation = session.generate(text, { sampling: { preset: "greedy" }, maxTokens: 60 });
    const story = await generation.text();
    const { reason, tokens } = await generation.finished;
    const decoded = await loaded.decode(tokens);
    await loaded.close();
    return { webgpu, opfs, missing: model, device: loaded.info.device, story, reason, n: tokens.length, decoded };
  }, PROMPT);
  const expected = await anser("generate", "-m", DEMO, "--device", "cpu", "--temperature", "0", "-n", "60", PROMPT);
  assert.equal(found.webgpu, null);
  assert.equal(found.opfs, true);
  assert.equal(found.missing, "network", "there is no demo model beside this page");
  assert.match(found.device, /^CPU/);
  assert.equal(expected.replace(PROMPT, "").trimEnd(), found.story.trimEnd());
  assert.equal(found.decoded, found.story);
  assert.deepEqual([found.reason, found.n], ["length", 60]);
});

test(shared, "an abort ends a text within a token, and the session stands there", async (page) => {
  const found = await page.evaluate(async (text) => {
    const model = await anser.load("/models/demo-q8_0.gguf");
    const session = await model.session();
    const controller = new AbortController();
    const generation = session.generate(text, { sampling: { preset: "greedy" }, signal: controller.signal });
    let nPieces = 0;
    for await (const { tokens } of generation.steps()) {
      nPieces += tokens.length;
      if (nPieces === 5) controller.abort();
    }
    const { reason, tokens } = await generation.finished;
    // Goes on where it stopped, which the last drawn token is read for.
    const rest = session.generate("", { sampling: { preset: "greedy" }, maxTokens: 7 });
    await rest.text();
    const all = [...tokens, ...(await rest.finished).tokens];
    const other = await model.session();
    const whole = other.generate(text, { sampling: { preset: "greedy" }, maxTokens: 12 });
    await whole.text();
    const left = [];
    for await (const piece of other.generate("", { maxTokens: 50 })) {
      left.push(piece);
      break;
    }
    const isFree = await other.nTokens();
    const early = await session.feed("x ".repeat(2000), { signal: AbortSignal.timeout(30) }).catch((error) => [error.name, error.code]);
    const before = await session.feed("x", { signal: AbortSignal.abort() }).catch((error) => error.code);
    await model.close();
    return { reason, n: tokens.length, all, whole: [...(await whole.finished).tokens], nLeft: left.length, isFree, early, before };
  }, PROMPT);
  assert.deepEqual([found.reason, found.n], ["cancelled", 5]);
  assert.deepEqual(found.all, found.whole);
  assert.equal(found.nLeft, 1);
  assert.ok(found.isFree > 0);
  assert.deepEqual(found.early, ["AbortError", "cancelled"]);
  assert.equal(found.before, "cancelled");
});

test(shared, "a state becomes a file and a state again, and a fork goes its own way", async (page) => {
  const found = await page.evaluate(async () => {
    const model = await anser.load("/models/demo-q8_0.gguf");
    const session = await model.session();
    await session.feed("Once upon a time, there was a little fox named Rusty.");
    const state = await session.state();
    const file = await session.save();
    const fork = await session.fork();
    await fork.feed(" He was blue.");
    const next = await session.feed(" One", { logits: "last" });
    const opened = await model.session();
    const remark = await opened.open(file);
    const keptLogits = (await opened.logits()).length;
    const fromFile = await opened.feed(" One", { logits: "last" });
    const restored = await model.session();
    await restored.restore(state);
    const fromState = await restored.feed(" One", { logits: "last" });
    const damaged = await opened.open(new Blob([(await file.bytes?.()) ?? new Uint8Array(await file.arrayBuffer())].map((b) => b.slice(0, -4)))).catch((e) => e.code);
    const wrong = (() => {
      try {
        return new anser.State(new Float32Array(3), state.nLayer, state.parts);
      } catch (error) {
        return error.code;
      }
    })();
    state.data[7] = NaN;
    const notFinite = await restored.restore(state).catch((error) => [error.code, error.message]);
    const sizes = [state.wkv(5).length, state.wkv(0, 3).length, state.attShift(1).length, state.ffnShift(2).length];
    const bytes = [...new Uint8Array(await file.slice(0, 200).arrayBuffer())];
    await model.close();
    return { a: [...next.logits], b: [...fromFile.logits], c: [...fromState.logits], remark, keptLogits, damaged, wrong, notFinite, sizes, bytes };
  });
  assert.deepEqual(found.a, found.b);
  assert.deepEqual(found.a, found.c);
  assert.equal(found.remark, null);
  assert.equal(found.keptLogits, N_VOCAB);
  assert.match(String.fromCharCode(...found.bytes), /"format":"anser-state"/);
  assert.deepEqual([found.damaged, found.wrong], ["state", "state"]);
  assert.equal(found.notFinite[0], "state");
  assert.match(found.notFinite[1], /att_shift, layer 0: element 7/);
  assert.deepEqual(found.sizes, [4 * 64 * 64, 64 * 64, 256, 256]);
});

test(shared, "two texts are generated side by side", async (page) => {
  const found = await page.evaluate(async () => {
    const model = await anser.load("/models/demo-q8_0.gguf");
    const prompts = ["Once upon a time", "User: What is 17 + 26?\n\nAssistant:"];
    const order = [];
    const one = async (prompt, name) => {
      const session = await model.session();
      let text = "";
      for await (const piece of session.generate(prompt, { sampling: { preset: "greedy" }, maxTokens: 20 })) {
        order.push(name);
        text += piece;
      }
      return text;
    };
    const together = await Promise.all(prompts.map(one));
    const changes = order.filter((name, i) => i > 0 && name !== order[i - 1]).length;
    const alone = [await one(prompts[0], 0), await one(prompts[1], 1)];
    await model.close();
    return { together, alone, changes };
  });
  assert.deepEqual(found.together, found.alone);
  assert.ok(found.changes > 5, "they take turns");
});

test(shared, "a conversation remembers, answers anew and ends its turns", async (page) => {
  const found = await page.evaluate(async () => {
    const model = await anser.load("/models/demo-q8_0.gguf");
    const chat = await model.chat({ system: "Be brief." });
    const options = { sampling: { preset: "greedy" }, maxTokens: 60 };
    const first = chat.say("Hello! Who are you?", options);
    const firstText = await first.text();
    const again = await chat.regenerate(options).text();
    const nothing = await chat.regenerate({ ...options, signal: AbortSignal.abort() }).text();
    const stayed = chat.messages.map(({ content }) => content).slice(1);
    const second = await chat.say("What is 17 + 26?", options).text();
    const messages = chat.messages.map(({ role, content }) => [role, content]);
    // The same conversation read at once.
    const fresh = await model.chat({ messages: [...chat.messages.slice(0, -2)] });
    const same = await fresh.say("What is 17 + 26?", options).text();
    const left = chat.say("Tell me a long story.", { ...options, maxTokens: 100 });
    let kept = "";
    for await (const { content } of left) {
      kept += content;
      if (kept.length > 10) break;
    }
    const last = chat.messages.at(-1);
    await model.close();
    return { nTokens: first.nTokens, reason: first.reason, firstText, again, nothing, stayed, second, same, messages, kept, last, leftReason: left.reason };
  });
  assert.equal(found.reason, "turn");
  assert.ok(found.nTokens > 3);
  assert.ok(found.firstText.length > 0);
  assert.equal(found.again, found.firstText);
  assert.deepEqual([found.nothing, found.stayed], ["", ["Hello! Who are you?", found.again]]);
  assert.equal(found.same, found.second);
  assert.match(found.second, /43/);
  assert.deepEqual(found.messages.map(([role]) => role), ["system", "user", "assistant", "user", "assistant"]);
  assert.deepEqual([found.last.role, found.last.content], ["assistant", found.kept]);
  assert.equal(found.leftReason, "cancelled");
});

test(shared, "probabilities, embeddings and errors", async (page) => {
  const found = await page.evaluate(async () => {
    const model = await anser.load("/models/demo-q8_0.gguf");
    const session = await model.session();
    const steps = [];
    for await (const { tokens } of session.generate("Once upon a", { sampling: { preset: "greedy" }, maxTokens: 3, probabilities: 4 }).steps()) steps.push(...tokens);
    const logits = await session.logits();
    const [near, , far] = await model.embed(["A fox runs in the forest.", "x", "The invoice is due on Monday."], { pooling: "mean", normalize: true });
    const [query] = await model.embed("A little fox in the woods.", { pooling: "mean", normalize: true });
    const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
    const codes = {};
    for (const [name, call] of Object.entries({
      sampling: () => session.generate("x", { sampling: { temperature: -1 } }).text(),
      unknown: () => session.generate("x", { sampling: { warmth: 1 } }).text(),
      stop: () => session.generate("x", { stop: [""] }).text(),
      id: () => session.feed([70000]),
      notAnId: () => session.feed([1.5]),
      decode: () => model.decode([65535000]),
      layer: () => model.embed("x", { layer: 99 }),
      twice: async () => {
        const open = session.generate("Once", { maxTokens: 5 });
        await open.steps().next();
        try {
          await session.feed("x");
        } finally {
          await open.steps().return();
        }
      },
      closed: async () => {
        const other = await model.session();
        await other.close();
        await other.feed("x");
      },
      notAModel: () => anser.load(new Blob([new Uint8Array(100)])),
      webgpu: () => anser.load("/models/demo-q8_0.gguf", { device: "webgpu" }),
      missing: () => anser.load("/models/none.gguf"),
    })) {
      codes[name] = await call().then(
        () => "none",
        (error) => (error instanceof anser.AnserError ? error.code : String(error)),
      );
    }
    const works = await session.feed("x").then(() => true);
    await model.close();
    const after = await session.feed("x").catch((error) => error.code);
    return { steps, nLogits: logits.length, near: dot(query, near), far: dot(query, far), length: dot(near, near), codes, works, after };
  });
  assert.equal(found.steps.length, 3);
  for (const { id, logProbability, top } of found.steps) {
    assert.equal(top.length, 4);
    assert.equal(top[0].id, id);
    assert.equal(top[0].logProbability, logProbability);
    assert.ok(top.reduce((sum, { logProbability }) => sum + Math.exp(logProbability), 0) <= 1.000001);
  }
  assert.ok(found.near > found.far, `${found.near} ${found.far}`);
  assert.ok(Math.abs(found.length - 1) < 1e-5);
  assert.deepEqual(found.codes, {
    sampling: "option",
    unknown: "option",
    stop: "option",
    id: "option",
    notAnId: "option",
    decode: "tokenizer",
    layer: "option",
    twice: "option",
    closed: "option",
    notAModel: "model",
    webgpu: "device",
    missing: "network",
  });
  assert.equal(found.works, true);
  assert.equal(found.after, "option");
});

test(shared, "a vocabulary comes with a model that carries none", async (page) => {
  const found = await page.evaluate(async () => {
    const url = "/fixtures/tiny/tiny-v7.st";
    const bare = await anser.load(url);
    const without = await bare.encode("abc").catch(({ code, message }) => ({ code, message }));
    const fed = await (await bare.session()).feed([7, 201], { logits: "last" });
    await bare.close();
    const line = (byte) => `${byte + 1} b'\\x${byte.toString(16).padStart(2, "0")}' 1`;
    const vocabulary = new Blob([Array.from({ length: 256 }, (_, byte) => line(byte)).join("\n")]);
    const model = await anser.load(url, { vocabulary });
    const ids = await model.encode("abé");
    const text = await model.decode(ids);
    await model.close();
    const damaged = await anser.load(url, { vocabulary: new Blob(["1 x"]) }).catch(({ code, message }) => ({ code, message }));
    return { without, nVocab: fed.logits.length, ids: [...ids], text, damaged };
  });
  assert.equal(found.without.code, "tokenizer");
  assert.match(found.without.message, /name a vocabulary file/);
  assert.equal(found.nVocab, 300);
  assert.deepEqual(found.ids, [98, 99, 0xc3 + 1, 0xa9 + 1]);
  assert.equal(found.text, "abé");
  assert.equal(found.damaged.code, "option");
  assert.match(found.damaged.message, /^vocabulary: /);
});
