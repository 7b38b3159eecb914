// Conversations: sending, streaming, stopping, branches, and what the browser keeps.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { answerWith, answerWithoutEnd, completed, events, KEY, send, shown, test } from "./harness.mjs";

test("an answer grows as it arrives", {}, async (page) => {
  // Each piece is sent when the page shows the one before.
  const body = events([{ content: "One" }, { content: " two" }, { content: " three." }]);
  await page.evaluate((all) => {
    const real = window.fetch;
    const shows = (text) => document.querySelector(".answer .markdown")?.textContent.includes(text);
    window.fetch = (url, options) => {
      if (!String(url).endsWith("/v1/chat/completions")) return real(url, options);
      window.fetch = real;
      const pieces = all.split(/(?<=\n\n)/);
      const stream = new ReadableStream({
        async start(controller) {
          for (const [at, piece] of pieces.entries()) {
            controller.enqueue(new TextEncoder().encode(piece));
            const text = ["One", "One two", "One two three."][at];
            while (text && !shows(text)) await new Promise((resolve) => setTimeout(resolve, 5));
          }
          controller.close();
        },
      });
      return Promise.resolve(new Response(stream, { headers: { "content-type": "text/event-stream" } }));
    };
  }, body);
  await send(page, "Count.");
  assert.equal((await (await completed(page)).locator(".markdown").textContent()).trim(), "One two three.");
});

test("an answer is counted and kept", {}, async (page) => {
  await send(page, "Tell me a story about a dog.");
  const answer = await completed(page);
  const text = await answer.locator(".markdown").textContent();
  assert.ok(text.length > 0);
  assert.match(await answer.locator(".figures").textContent(), /\d+ tokens?.* tokens\/s/);
  // It is spoken once, when it is complete.
  await page.locator("[aria-live]").filter({ hasText: text.trim().slice(0, 10) }).waitFor({ state: "attached" });
  await page.reload();
  assert.equal(await (await completed(page)).locator(".markdown").textContent(), text);
  assert.equal(await page.getByRole("heading", { level: 1 }).textContent(), "Tell me a story about a dog.");
});

test("the second turn reads little, and the system prompt and sampling are sent", {}, async (page) => {
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByLabel("System prompt").fill("Be brief.");
  await page.getByRole("radio", { name: "Exact" }).check();
  await page.getByLabel("Most tokens of an answer").fill("12");
  await page.getByLabel("Most tokens of an answer").blur();
  await page.keyboard.press("Escape");
  const requests = [];
  page.on("request", (request) => request.url().endsWith("/chat/completions") && requests.push(request.postDataJSON()));
  await send(page, "Hello! Who are you?");
  await completed(page);
  await send(page, "And who am I?");
  const second = await completed(page, 2);
  assert.match(await second.locator(".figures").textContent(), /\d+ of \d+ cached/);
  const [first, later] = requests;
  assert.deepEqual(first.messages, [{ role: "system", content: "Be brief." }, { role: "user", content: "Hello! Who are you?" }]);
  assert.deepEqual(later.messages.map((message) => message.role), ["system", "user", "assistant", "user"]);
  assert.deepEqual([first.temperature, first.max_tokens, first.sampler_order, first.reasoning_effort], [0, 12, "rwkv", "none"]);
});

test("Esc stops an answer, which can be continued", {}, async (page) => {
  await answerWithoutEnd(page, "Once upon");
  await send(page, "A story, please.");
  await shown(page, "Once upon");
  await page.getByRole("button", { name: "Stop" }).waitFor();
  await page.keyboard.press("Escape");
  const answer = await completed(page);
  assert.match(await answer.locator(".figures").textContent(), /stopped/);
  const requests = await answerWith(page, " a time.");
  await page.getByRole("button", { name: "Continue the answer" }).click();
  await shown(page, "Once upon a time.");
  assert.deepEqual(requests[0].messages.at(-1), { role: "assistant", content: "Once upon" });
});

test("thoughts are folded and tell their time", {}, async (page) => {
  await page.getByLabel("Think").selectOption("medium");
  await page.route("**/v1/chat/completions", (route) => {
    assert.equal(route.request().postDataJSON().reasoning_effort, "medium");
    const deltas = [{ reasoning_content: "Let me see." }, { content: "It is 43." }];
    const data = deltas.map((delta) => `data: ${JSON.stringify({ choices: [{ delta, finish_reason: null }] })}\n\n`);
    return route.fulfill({ contentType: "text/event-stream", body: `${data.join("")}data: [DONE]\n\n` });
  });
  await send(page, "What is 17 + 26?");
  const answer = await completed(page);
  const thought = answer.getByText("Let me see.");
  assert.equal(await thought.isVisible(), false);
  await answer.getByText(/^Thought for /).click();
  assert.equal(await thought.isVisible(), true);
});

test("another answer and an edited message are branches", {}, async (page) => {
  const requests = await answerWith(page, "First answer.", "Second answer.", "Third answer.");
  await send(page, "A question");
  await shown(page, "First answer.");
  await page.getByRole("button", { name: "Another answer" }).click();
  await shown(page, "Second answer.");
  await page.getByText("2/2").waitFor();
  await page.getByRole("button", { name: "Previous alternative" }).click();
  await shown(page, "First answer.");
  await page.getByRole("button", { name: "Edit message" }).click();
  await page.getByLabel("Text of the message").fill("Another question");
  await page.getByRole("button", { name: "Ask" }).click();
  await shown(page, "Third answer.");
  assert.deepEqual(requests.at(-1).messages, [{ role: "user", content: "Another question" }]);
  assert.equal(await page.locator(".messages").getByText("First answer.").count(), 0);
  await page.getByRole("button", { name: "Previous alternative" }).click();
  await shown(page, "First answer.");
  await page.getByRole("button", { name: "Edit answer" }).click();
  await page.getByLabel("Text of the message").fill("My own answer.");
  await page.getByRole("button", { name: "Keep" }).click();
  await page.getByText("3/3").waitFor();
  await page.reload();
  await shown(page, "My own answer.");
  await send(page, "Go on");
  await completed(page, 2);
  assert.deepEqual(
    requests.at(-1).messages.map((message) => message.content),
    ["A question", "My own answer.", "Go on"],
  );
});

test("conversations are found, renamed, deleted and brought back", {}, async (page) => {
  await answerWith(page, "Geese fly south.", "Bread needs salt.");
  await send(page, "About birds");
  await shown(page, "Geese fly south.");
  await page.getByRole("button", { name: "New conversation" }).first().click();
  await send(page, "About baking");
  await shown(page, "Bread needs salt.");
  await page.getByRole("heading", { level: 1 }).getByRole("button").click();
  await page.getByLabel("Title").fill("The kitchen");
  await page.keyboard.press("Enter");
  const list = page.getByRole("navigation", { name: "Conversations" });
  await list.getByRole("link", { name: "The kitchen" }).waitFor();
  await page.keyboard.press("Control+k");
  await page.keyboard.type("geese");
  assert.deepEqual(await list.getByRole("link").allTextContents(), ["About birds"]);
  await page.keyboard.press("Enter");
  await shown(page, "Geese fly south.");
  await page.getByLabel("Search conversations").fill("");
  await page.getByRole("button", { name: "Delete “The kitchen”" }).click();
  await page.getByText("Deleted “The kitchen”.").waitFor();
  assert.equal(await list.getByRole("link").count(), 1);
  await page.getByRole("button", { name: "Undo" }).click();
  await list.getByRole("link", { name: "The kitchen" }).waitFor();
});

test("two tabs show the same conversation", {}, async (page, context) => {
  await answerWith(page, "One answer.", "Another answer.");
  await send(page, "A question");
  await shown(page, "One answer.");
  const other = await context.newPage();
  await other.goto(page.url());
  await shown(other, "One answer.");
  await send(page, "More");
  await shown(other, "Another answer.");
  await other.getByRole("button", { name: "Delete “A question”" }).click();
  await page.getByText("What would you like to know?").waitFor();
  await other.getByRole("button", { name: "Undo" }).click();
  await shown(page, "Another answer.");
});

test("what is exported can be imported elsewhere", {}, async (page) => {
  await answerWith(page, "One **bold** answer.", "Another answer.");
  await send(page, "A question");
  await shown(page, "answer.");
  await page.getByRole("button", { name: "Another answer" }).click();
  await page.getByText("2/2").waitFor();
  await page.getByRole("button", { name: "Settings" }).click();
  const saved = page.waitForEvent("download");
  await page.getByRole("button", { name: "Export all" }).click();
  const file = await (await saved).path();
  assert.equal(JSON.parse(await readFile(file, "utf8")).format, "anser-conversations");
  await page.getByRole("button", { name: "Delete all" }).click();
  await page.getByText("What would you like to know?").waitFor();
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByLabel("Import").setInputFiles({ name: "x.json", mimeType: "application/json", buffer: Buffer.from('{"a": 1}') });
  await page.getByText(/The file has no conversations/).waitFor();
  await page.getByLabel("Import").setInputFiles(file);
  await page.getByText("Imported 1 conversation.").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("link", { name: "A question" }).click();
  await shown(page, "Another answer.");
  await page.getByRole("button", { name: "Previous alternative" }).click();
  assert.equal(await page.locator(".markdown strong").textContent(), "bold");
});

test("a key is asked for, and forgotten with the tab unless the user wants otherwise", { key: null }, async (page) => {
  await page.getByRole("alert").getByText("The server needs a key").waitFor();
  await page.getByRole("alert").getByRole("button", { name: "Settings" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("API key").fill("wrong");
  await dialog.getByRole("button", { name: "Use" }).click();
  await dialog.getByText("The server does not know this key.").waitFor();
  await dialog.getByLabel("API key").fill(KEY);
  await dialog.getByRole("button", { name: "Use" }).click();
  await dialog.getByText("The server answers.").waitFor();
  const kept = () => page.evaluate(() => [sessionStorage, localStorage].map((storage) => storage.getItem("anser-key")));
  assert.deepEqual(await kept(), [KEY, null]);
  await dialog.getByLabel(/^Remember it/).check();
  await dialog.getByRole("button", { name: "Use" }).click();
  assert.deepEqual(await kept(), [null, KEY]);
  await page.keyboard.press("Escape");
  await page.getByRole("alert").waitFor({ state: "detached" });
});

test("a server that is gone is told, and asked again", {}, async (page) => {
  await page.getByText("What would you like to know?").waitFor();
  await page.route("**/*", (route) => route.abort("connectionrefused"));
  await send(page, "Are you there?");
  await page.getByRole("alert").getByText("The server cannot be reached.").waitFor();
  await page.unroute("**/*");
  await page.getByRole("button", { name: "Retry" }).click();
  const answer = await completed(page);
  await answer.getByRole("alert").waitFor({ state: "detached" });
  await answer.locator(".figures").filter({ hasText: "token" }).waitFor();
});

test("a stream that breaks off keeps what has arrived", {}, async (page) => {
  const body = 'data: {"choices": [{"delta": {"content": "Half of"}}]}\n\ndata: {"error": {"message": "the device failed", "code": "device_lost"}}\n\n';
  await page.route("**/v1/chat/completions", (route) => route.fulfill({ contentType: "text/event-stream", body }));
  await send(page, "Hello");
  await page.getByRole("alert").getByText("The device failed.").waitFor();
  await shown(page, "Half of");
});
