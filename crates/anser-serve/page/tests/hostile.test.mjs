// Texts that try to do something. A model's answer, a title and an imported file are hostile input.

import assert from "node:assert/strict";
import { answerWith, completed, events, send, test, URL_OF_PAGE } from "./harness.mjs";

const HOSTILE = `<script>window.hit = 1</script>

![pixel](http://tracker.example/pixel.png) ![x](javascript:window.hit=2) <img src=x onerror="window.hit = 3">

<div onmouseover="window.hit = 4" style="position:fixed;inset:0">over</div>

[run](javascript:window.hit=5) [data](data:text/html,<script>window.hit=6</script>) [own](/v1/models) [safe](https://example.org/a)

| <svg onload="window.hit = 7"> | b |
|---|---|
| <iframe src="//tracker.example/frame"></iframe> | &lt;script&gt;window.hit = 8&lt;/script&gt; |

\`\`\`html"><img src=x onerror="window.hit = 9">
<script>window.hit = 10</script>
\`\`\``;

test("an answer does nothing, and is read as it was written", {}, async (page) => {
  const elsewhere = [];
  page.on("request", (request) => request.url().startsWith(URL_OF_PAGE) || elsewhere.push(request.url()));
  await page.route("**/v1/chat/completions", (route) =>
    route.fulfill({ contentType: "text/event-stream", body: events([{ reasoning_content: HOSTILE }, { content: HOSTILE }]) }),
  );
  await send(page, HOSTILE);
  await page.locator(".figures").waitFor();
  await page.getByText(/^Thought/).click();
  await page.locator(".markdown").getByText("over").first().hover();
  assert.equal(await page.evaluate(() => window.hit), undefined);
  assert.deepEqual(elsewhere, []);
  assert.equal(await page.locator(".messages :is(script, img, iframe, svg[onload], [style], [onmouseover])").count(), 0);
  const links = await page.locator(".markdown a").evaluateAll((all) => all.map((link) => [link.textContent, link.href, link.rel]));
  assert.deepEqual(links, [
    ["pixel", "http://tracker.example/pixel.png", "noopener noreferrer nofollow"],
    ["safe", "https://example.org/a", "noopener noreferrer nofollow"],
  ]);
  const text = await page.locator(".markdown").textContent();
  for (const part of ["<script>window.hit = 1</script>", 'onerror="window.hit = 3"', "<script>window.hit = 8</script>", "<script>window.hit = 10</script>"]) {
    assert.ok(text.includes(part), part);
  }
});

test("a text that is nested deeply is shown as it is", {}, async (page) => {
  await answerWith(page, `${">".repeat(5000)} deep`, `${"- ".repeat(3000)}deep`, `${"*".repeat(4000)}deep${"*".repeat(4000)}`, `${"[".repeat(3000)}deep`);
  for (const n of [1, 2, 3, 4]) {
    await send(page, `Number ${n}`);
    assert.match(await (await completed(page, n)).locator(".markdown").textContent(), /deep/);
  }
});

test("an imported file does nothing, whatever it holds", {}, async (page) => {
  const message = { role: "assistant", content: HOSTILE, children: ["a", "b", "b", 7], chosen: 1e9, end: "x", cost: { nGenerated: "many" } };
  const conversations = [
    { title: HOSTILE, roots: ["a", "a", null], messages: { a: { ...message, role: "user" }, b: message, __proto__: { c: message } }, settings: { sampling: { values: { temperature: 1e9 } } } },
    null,
    { messages: [], roots: {} },
  ];
  const buffer = Buffer.from(JSON.stringify({ format: "anser-conversations", version: 1, conversations }));
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByLabel("Import").setInputFiles({ name: "x.json", mimeType: "application/json", buffer });
  await page.getByText("Imported 3 conversations.").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("link", { name: /window\.hit = 1/ }).click();
  await page.locator(".markdown").waitFor();
  assert.equal(await page.locator(".message").count(), 2);
  await page.reload();
  await page.locator(".markdown").waitFor();
  assert.equal(await page.evaluate(() => window.hit), undefined);
});

test("nothing but this server is asked for, and no other page frames this one", {}, async (page) => {
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  const [response] = await Promise.all([page.waitForResponse(URL_OF_PAGE), page.reload()]);
  await page.getByText("What would you like to know?").waitFor();
  assert.ok(asked.length >= 4 && asked.every((url) => url.startsWith(URL_OF_PAGE)), asked.join("\n"));
  const policy = response.headers()["content-security-policy"];
  for (const rule of ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"]) {
    assert.ok(policy.includes(rule), policy);
  }
});
