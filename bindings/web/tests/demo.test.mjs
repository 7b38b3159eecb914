// The demo page: its four views, without a network, on a phone, with a keyboard, and for screen readers.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { answerWithoutNetwork, browserFor, test } from "./harness.mjs";

const shared = browserFor({ args: ["--disable-features=WebGPU"] });
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PAGE = { path: "/demo/index.html" };
const VIEWS = ["Chat", "Completion", "State", "Search"];

/** Waits until there is a model; the first visit asks for it. */
async function ready(page) {
  const tabs = page.getByRole("tablist");
  const button = page.getByRole("button", { name: /Load the demo model/ });
  await tabs.or(button).first().waitFor();
  if (await button.isVisible()) await button.click();
  await tabs.waitFor();
}

const open = (page, view) => page.getByRole("tab", { name: view }).click();

/** What axe finds. */
async function faults(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(" | ")}`);
}

const widthBeyond = (page) => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);

test(shared, "the first visit loads the demo model, and a chat answers", async (page) => {
  await ready(page);
  await page.getByRole("textbox", { name: "Message" }).fill("What is 17 + 26?");
  await page.keyboard.press("Enter");
  const answer = page.locator(".answer:not([aria-busy=true])");
  await answer.waitFor();
  assert.match(await answer.locator(".markdown").textContent(), /43/);
  assert.match(await answer.locator(".figures").textContent(), /\d+ tokens/);
  await page.getByRole("button", { name: "Another answer" }).click();
  await answer.waitFor();
  assert.equal(await page.locator(".answer").count(), 1);
  await page.getByRole("textbox", { name: "Message" }).fill("Tell me a long story about a fox.");
  await page.getByRole("button", { name: "Send" }).click();
  await page.getByRole("button", { name: "Stop" }).click();
  await answer.nth(1).waitFor();
}, PAGE);

test(shared, "a completion shows probabilities, and goes on from another token", async (page) => {
  await ready(page);
  await open(page, "Completion");
  await page.getByRole("radio", { name: "Exact" }).check({ force: true });
  await page.getByRole("button", { name: "Complete" }).click();
  await page.getByRole("button", { name: "Go on" }).waitFor();
  const tokens = page.locator(".token");
  const n = await tokens.count();
  assert.ok(n > 5);
  await tokens.nth(2).hover();
  const alternatives = page.locator(".token-panel li button");
  assert.equal(await alternatives.count(), 8);
  const other = await alternatives.nth(1).locator("code").textContent();
  await alternatives.nth(1).click();
  await page.getByRole("button", { name: "Go on" }).waitFor();
  assert.equal((await tokens.nth(2).textContent()).replace(/ /g, "␣").replace(/\n/g, "↵"), other);
  await tokens.nth(2).focus();
  await page.keyboard.press("ArrowRight");
  assert.equal(await tokens.nth(3).getAttribute("aria-pressed"), "true");
}, PAGE);

test(shared, "the state is drawn, saved and opened", async (page) => {
  await ready(page);
  await open(page, "State");
  await page.getByText(/after \d+ tokens/).waitFor();
  const drawn = () => page.locator("canvas").first().evaluate((canvas) => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.filter((x, i) => i % 4 === 3 && x > 0).length);
  await page.waitForFunction(() => document.querySelector("canvas")?.width === 64);
  // The state is shown while the text is read; this is the last one.
  await page.locator("#view-state button:enabled", { hasText: "Save" }).waitFor();
  assert.ok((await drawn()) > 2000);
  assert.equal(await page.locator("canvas").count(), 4);
  const label = await page.locator("canvas").first().getAttribute("aria-label");
  const download = page.waitForEvent("download");
  await page.getByRole("button", { name: "Save" }).click();
  const path = await (await download).path();
  await page.getByRole("textbox", { name: "Text to read" }).fill("Another text.");
  await page.getByRole("button", { name: "Read" }).click();
  await page.waitForFunction((label) => document.querySelector("canvas").getAttribute("aria-label") !== label, label);
  await page.locator("#view-state input[type=file]").setInputFiles({ name: "state.safetensors", mimeType: "application/octet-stream", buffer: await readFile(path) });
  await page.waitForFunction((label) => document.querySelector("canvas").getAttribute("aria-label") === label, label);
  await page.getByRole("slider").focus();
  await page.keyboard.press("ArrowRight");
  await page.getByText("Layer 2 of 6").waitFor();
  await page.getByRole("button", { name: "Go on from here" }).click();
  await page.getByText("It would go on:").first().waitFor();
}, PAGE);

test(shared, "a search finds what is near", async (page) => {
  await ready(page);
  await open(page, "Search");
  await page.getByRole("button", { name: "Search" }).click();
  const hits = page.locator(".hits li");
  await hits.first().waitFor();
  assert.equal(await hits.count(), 9);
  assert.match(await hits.first().textContent(), /fox|rabbit|owl|river/i);
}, PAGE);

test(shared, "the keyboard reaches the views, and screen readers find no fault, in both themes", async (page) => {
  await page.getByRole("heading", { name: "Anser" }).waitFor();
  await ready(page);
  await page.getByRole("tab", { name: "Chat" }).focus();
  for (const view of ["Completion", "State", "Search", "Chat"]) {
    await page.keyboard.press("ArrowRight");
    assert.equal(await page.getByRole("tab", { name: view }).getAttribute("aria-selected"), "true");
    await page.getByRole("tabpanel", { name: view }).waitFor();
  }
  for (const theme of ["light", "dark"]) {
    await page.evaluate((theme) => (document.documentElement.dataset.theme = theme), theme);
    for (const view of VIEWS) {
      await open(page, view);
      assert.deepEqual(await faults(page), [], `${view}, ${theme}`);
    }
  }
  await page.getByRole("button", { name: "Another model" }).click();
  await page.getByRole("button", { name: /Load the demo model/ }).waitFor();
  await page.getByText("Use a model of your own").click();
  assert.deepEqual(await faults(page), []);
}, PAGE);

test(shared, "it fits a phone", async (page) => {
  await page.setViewportSize({ width: 360, height: 740 });
  await ready(page);
  for (const view of VIEWS) {
    await open(page, view);
    assert.equal(await widthBeyond(page), 0, view);
  }
}, PAGE);

test(shared, "after the first visit it works without a network", async (page) => {
  await ready(page);
  await page.evaluate(() => navigator.serviceWorker.ready);
  // The worker has the files once it controls the page.
  await page.waitForFunction(() => navigator.serviceWorker.controller !== null);
  // The module with threads is of no use to a page that is not isolated.
  const nModules = await page.evaluate(async () => {
    const names = [];
    for (const name of await caches.keys()) names.push(...(await (await caches.open(name)).keys()).map(({ url }) => url));
    return names.filter((url) => url.endsWith(".wasm")).length;
  });
  assert.equal(nModules, 1);
  assert.ok((await answerWithoutNetwork(page, shared.context)).length > 0);
}, PAGE);
