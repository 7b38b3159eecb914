// A browser, and a page of the server that scripts/test-page has started.

import assert from "node:assert/strict";
import { after, before, test as nodeTest } from "node:test";
import { chromium } from "playwright-core";

export const URL_OF_PAGE = process.env.ANSER_PAGE;
export const KEY = process.env.ANSER_KEY;

let browser;

before(async () => {
  const args = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"];
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args });
});

after(() => browser.close());

/**
 * A test with a page of its own, which fails if a script of the page throws or its policy is broken. Options: `key`, which is there
 * from the beginning unless it is null, and those of Playwright's contexts.
 */
export function test(name, options, run) {
  nodeTest(name, async () => {
    const { key = KEY, ...ofContext } = options;
    const context = await browser.newContext({ viewport: { width: 1000, height: 800 }, reducedMotion: "reduce", ...ofContext });
    context.setDefaultTimeout(20_000);
    const page = await context.newPage();
    const broken = [];
    page.on("pageerror", (error) => broken.push(String(error)));
    page.on("console", (message) => {
      if (/Content Security Policy|Trusted/i.test(message.text())) broken.push(message.text());
    });
    if (key !== null) await page.addInitScript((value) => sessionStorage.setItem("anser-key", value), key);
    try {
      await page.goto(URL_OF_PAGE);
      await run(page, context);
      assert.deepEqual(broken, []);
    } finally {
      await context.close();
    }
  });
}

/** The events of a streamed answer. */
export function events(pieces, { finish = "stop", usage = { prompt_tokens: 20, completion_tokens: 10, prompt_tokens_details: { cached_tokens: 5 } } } = {}) {
  const chunk = (delta, finish_reason = null) => ({ choices: [{ index: 0, delta, finish_reason }] });
  const chunks = [...pieces.map((delta) => chunk(delta)), chunk({}, finish), { choices: [], usage }];
  return [...chunks.map((json) => JSON.stringify(json)), "[DONE]"].map((data) => `data: ${data}\n\n`).join("");
}

/** Answers the page's chats in the place of the server, with each of the texts in turn. Returns the requests' bodies. */
export async function answerWith(page, ...texts) {
  const requests = [];
  await page.route("**/v1/chat/completions", (route) => {
    const text = texts[Math.min(requests.length, texts.length - 1)];
    requests.push(route.request().postDataJSON());
    return route.fulfill({ contentType: "text/event-stream", body: events([{ content: text }]) });
  });
  return requests;
}

/**
 * From now on the page's chats get this text from a stream that never ends by itself, which an abort ends as it would end one of the
 * server.
 */
export async function answerWithoutEnd(page, text) {
  const body = events([{ content: text }]).split("\n\n")[0] + "\n\n";
  await page.evaluate((first) => {
    const real = window.fetch;
    window.fetch = (url, options) => {
      if (!String(url).endsWith("/v1/chat/completions")) return real(url, options);
      window.fetch = real;
      const stream = new ReadableStream({
        start(controller) {
          controller.enqueue(new TextEncoder().encode(first));
          options.signal.addEventListener("abort", () => controller.error(options.signal.reason));
        },
      });
      return Promise.resolve(new Response(stream));
    };
  }, body);
}

export async function send(page, text) {
  await page.getByRole("textbox", { name: "Message" }).fill(text);
  await page.keyboard.press("Enter");
}

/** Waits until a message shows this text. */
export async function shown(page, text) {
  await page.locator(".messages").getByText(text).first().waitFor();
}

/** The answer of this number, once it is complete. */
export async function completed(page, n = 1) {
  const answers = page.locator(".answer:not([aria-busy=true])");
  await answers.nth(n - 1).waitFor();
  return answers.nth(n - 1);
}

/** By how many pixels the page is wider than its window. */
export async function widthBeyond(page) {
  return page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
}
