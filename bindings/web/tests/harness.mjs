// A browser, and a page that has loaded the package from a server of the test.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test as nodeTest } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { chromium } from "playwright-core";
import { startFirefox } from "./firefox.mjs";
import { serve } from "./server.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));
export const REPOSITORY = join(here, "../../..");
export const DEMO = join(REPOSITORY, "models/demo-q8_0.gguf");

const ARGUMENTS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"];
/** A GPU in software, which Chromium gives to pages only with these. */
export const SOFTWARE_GPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];

/** The command, which runs the same models natively. */
export async function anser(...args) {
  const { stdout } = await promisify(execFile)(process.env.ANSER, args, { maxBuffer: 64 << 20 });
  return stdout;
}

/** Starts Chromium, or the Firefox that FIREFOX names, for this file's tests. The origin's private file system needs a profile on disk. */
export function browserFor({ args = [], isolated = false } = {}) {
  const shared = { context: null, server: null };
  let profile;
  before(async () => {
    profile = await mkdtemp(join(tmpdir(), "anser-web-"));
    const folders = {
      "": here,
      dist: join(here, "../dist"),
      models: join(REPOSITORY, "models"),
      fixtures: join(REPOSITORY, "fixtures"),
      demo: join(here, "../demo/dist"),
    };
    shared.server = await serve(folders, { isolated });
    if (process.env.FIREFOX) {
      shared.context = await startFirefox(profile, shared.server, { gpu: args === SOFTWARE_GPU });
      return;
    }
    shared.context = await chromium.launchPersistentContext(profile, {
      executablePath: process.env.CHROMIUM,
      args: [...ARGUMENTS, ...args],
      viewport: { width: 1000, height: 800 },
      reducedMotion: "reduce",
    });
    shared.context.setDefaultTimeout(60_000);
  });
  after(async () => {
    await shared.context?.close();
    await shared.server?.close();
    await rm(profile, { recursive: true, force: true });
  });
  return shared;
}

/** A test with a page of its own, which fails if a script of the page throws. `path` is the page; the empty one has `anser` as a global. */
export function test(shared, name, run, { path = "/blank.html", chromiumOnly = false } = {}) {
  nodeTest(name, { skip: chromiumOnly && process.env.FIREFOX ? "it needs what Chromium alone does" : false }, async () => {
    const page = await shared.context.newPage();
    const broken = [];
    page.on("pageerror", (error) => broken.push(String(error)));
    try {
      await page.goto(shared.server.url + path);
      if (path === "/blank.html") await page.waitForFunction(() => globalThis.anser !== undefined);
      await run(page, shared.server);
      assert.deepEqual(broken, []);
    } finally {
      shared.server.misbehave = null;
      await page.close();
    }
  });
}

/** The answer of the demo page, which the service worker has kept, to a message, after it was opened anew without a network. */
export async function answerWithoutNetwork(page, context) {
  await context.setOffline(true);
  try {
    await page.reload();
    await page.getByRole("tablist").waitFor();
    await page.getByRole("textbox", { name: "Message" }).fill("Hello! Who are you?");
    await page.keyboard.press("Enter");
    const answer = page.locator(".answer:not([aria-busy=true])");
    await answer.waitFor();
    return await answer.locator(".markdown").textContent();
  } finally {
    await context.setOffline(false);
  }
}

/** The largest difference of two rows of numbers. */
export function difference(a, b) {
  assert.equal(a.length, b.length);
  return a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i])), 0);
}
