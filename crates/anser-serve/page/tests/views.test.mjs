// The completion and the states, narrow windows, and what axe finds.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { answerWith, completed, send, test, URL_OF_PAGE, widthBeyond } from "./harness.mjs";

const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const ANSWER = `# A heading

Words, **bold**, *italic*, \`code\`, and [a link](https://example.org/a/very/long/address/${"x".repeat(80)}).

- a list
  1. in a list

> A quotation

| A table | with | many | columns | that | are | wide |
|---|---|---|---|---|---|---|
| ${"wide ".repeat(3)}| ${"b".repeat(30)} | c | d | e | f | g |

\`\`\`rust
fn main() { println!("${"a long line ".repeat(12)}"); }
\`\`\`

${"unbroken".repeat(40)}`;

test("a completion shows the probabilities of its tokens, by pointer and by keys", {}, async (page) => {
  await page.getByRole("link", { name: "Completion" }).click();
  await page.getByLabel("Text", { exact: true }).fill("Once upon a");
  await page.getByLabel("Tokens to generate").fill("8");
  await page.getByRole("button", { name: "Generate" }).click();
  await page.getByRole("button", { name: "Go on" }).waitFor();
  const tokens = page.locator(".token");
  const panel = page.getByRole("complementary", { name: "Token" });
  const nTokens = await tokens.count();
  assert.ok(nTokens > 1 && nTokens <= 8, `${nTokens} tokens`);
  await tokens.nth(1).hover();
  assert.match(await panel.textContent(), /\d %/);
  await tokens.nth(1).focus();
  await page.keyboard.press("Home");
  assert.equal(await tokens.nth(0).getAttribute("aria-pressed"), "true");
  assert.match(await tokens.nth(0).getAttribute("aria-label"), / %$/);
  await page.keyboard.press("ArrowRight");
  assert.equal(await tokens.nth(1).evaluate((token) => token === document.activeElement), true);
  const shares = (await panel.locator("li span").allTextContents()).map((text) => Number(text.replace(/[^\d.]/g, "")));
  assert.ok(shares.length >= 5 && shares.every((share, i) => i === 0 || share <= shares[i - 1]), `${shares}`);
  const other = panel.getByRole("listitem").nth(1).getByRole("button");
  const name = await other.locator("code").textContent();
  await other.click();
  await page.getByRole("button", { name: "Go on" }).waitFor();
  assert.equal((await tokens.nth(1).textContent()).trim(), name.replaceAll("␣", " ").replaceAll("↵", "\n").trim());
  await page.getByRole("button", { name: "Score the text" }).click();
  await page.locator(".prompt").filter({ hasNotText: "Once" }).waitFor({ state: "attached" });
  await page.getByText(/perplexity/).waitFor();
  const whole = await tokens.allTextContents();
  assert.ok(whole.join("").startsWith("Once upon a"));
  await page.getByRole("button", { name: "Edit" }).click();
  assert.equal(await page.getByLabel("Text", { exact: true }).inputValue(), whole.join(""));
});

test("the state of a conversation is kept, begun from, downloaded and deleted", {}, async (page) => {
  await send(page, "My name is Ada.");
  await completed(page);
  await page.getByRole("button", { name: "Save the state" }).click();
  await page.getByRole("textbox", { name: "Name" }).fill("about-ada");
  await page.getByRole("dialog").getByRole("button", { name: "Save", exact: true }).click();
  await page.getByRole("button", { name: "Show states" }).click();
  await page.getByRole("heading", { name: "about-ada" }).waitFor();
  await page.getByText(/\d+ tokens read/).waitFor();
  const saved = page.waitForEvent("download");
  await page.getByRole("button", { name: "Download about-ada" }).click();
  const file = await (await saved).path();
  await page.getByRole("button", { name: "Begin a conversation" }).click();
  const request = page.waitForRequest("**/v1/chat/completions");
  await send(page, "What is my name?");
  const { state, messages } = (await request).postDataJSON();
  assert.deepEqual([state, messages], ["about-ada", [{ role: "user", content: "What is my name?" }]]);
  const answer = await completed(page);
  assert.equal(await answer.getByRole("alert").count(), 0);
  await page.getByRole("link", { name: "States" }).click();
  await page.getByLabel("Upload a state").setInputFiles({ name: "again.safetensors", mimeType: "application/octet-stream", buffer: await readFile(file) });
  await page.getByRole("heading", { name: "again" }).waitFor();
  await page.getByRole("textbox", { name: "Name" }).fill("a-text");
  await page.getByRole("textbox", { name: "Text" }).fill("Once upon a time there was a dog.");
  await page.getByRole("button", { name: "Read the text" }).click();
  await page.getByRole("heading", { name: "a-text" }).waitFor();
  for (const name of ["a-text", "about-ada", "again"]) {
    await page.getByRole("button", { name: `Delete ${name}` }).click();
    await page.getByRole("button", { name: "Delete", exact: true }).click();
    await page.getByRole("heading", { name, exact: true }).waitFor({ state: "detached" });
  }
  await page.getByText("There are no states yet.").waitFor();
});

test("of several models one is chosen, and a state brings its own", {}, async (page) => {
  const models = ["large", "small"].map((id) => ({ id, object: "model" }));
  const states = [{ id: "manual", object: "state", model: "small", created: 1_700_000_000, n_tokens: 9, n_bytes: 1000 }];
  await page.route("**/v1/models", (route) => route.fulfill({ json: { object: "list", data: models } }));
  await page.route("**/v1/states", (route) => route.fulfill({ json: { object: "list", data: states } }));
  const requests = await answerWith(page, "An answer.");
  await page.reload();
  const choice = page.getByRole("combobox", { name: "Model" });
  await choice.waitFor();
  assert.equal(await choice.inputValue(), "large");
  await send(page, "First");
  await completed(page);
  await choice.selectOption("small");
  await send(page, "Second");
  await completed(page, 2);
  await choice.selectOption("large");
  await page.getByRole("link", { name: "States" }).click();
  await page.getByRole("button", { name: "Begin a conversation" }).click();
  await send(page, "Third");
  await completed(page);
  assert.deepEqual(
    requests.map(({ model, state }) => [model, state]),
    [["large", undefined], ["small", undefined], ["small", "manual"]],
  );
});

test("a window of 320 pixels shows all without scrolling sideways", { viewport: { width: 320, height: 640 } }, async (page) => {
  await answerWith(page, ANSWER);
  await send(page, "unbroken".repeat(40));
  await completed(page);
  assert.equal(await widthBeyond(page), 0);
  const outside = await page.locator(".messages").evaluate((list) => list.scrollWidth - list.clientWidth);
  assert.equal(outside, 0);
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByText("Values", { exact: true }).click();
  assert.equal(await widthBeyond(page), 0);
  const ofDialog = await page.getByRole("dialog").evaluate((dialog) => dialog.scrollWidth - dialog.clientWidth);
  assert.equal(ofDialog, 0);
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Menu" }).click();
  await page.getByRole("link", { name: "Completion" }).click();
  await page.getByRole("button", { name: "Score the text" }).waitFor();
  assert.equal(await widthBeyond(page), 0);
  await page.getByRole("button", { name: "Menu" }).click();
  await page.getByRole("link", { name: "States" }).click();
  await page.getByRole("heading", { name: "New state" }).waitFor();
  assert.equal(await widthBeyond(page), 0);
});

for (const colorScheme of ["light", "dark"]) {
  test(`axe finds nothing, ${colorScheme}`, { colorScheme }, async (page) => {
    const check = async (view) => {
      await page.evaluate(AXE);
      const { violations } = await page.evaluate(() => window.axe.run({ resultTypes: ["violations"] }));
      const told = violations.map(({ id, nodes }) => `${view}: ${id}: ${nodes.map((node) => node.html).join(" ")}`);
      assert.deepEqual(told, []);
    };
    await page.getByText("What would you like to know?").waitFor();
    await check("beginning");
    await answerWith(page, ANSWER);
    await send(page, "A question");
    await completed(page);
    await page.getByRole("button", { name: "Another answer" }).click();
    await page.getByText("2/2").waitFor();
    await check("conversation");
    await page.route("**/v1/chat/completions", (route) => route.abort());
    await send(page, "Another question");
    await page.getByRole("alert").waitFor();
    await check("problem");
    await page.getByRole("button", { name: "Settings" }).first().click();
    await page.getByText("Values", { exact: true }).click();
    await check("settings");
    await page.keyboard.press("Escape");
    await page.goto(`${URL_OF_PAGE}#/states`);
    await page.getByRole("heading", { name: "New state" }).waitFor();
    await check("states");
    await page.getByRole("link", { name: "Completion" }).click();
    await page.getByLabel("Text", { exact: true }).fill("Once");
    await page.getByRole("button", { name: "Generate" }).click();
    await page.getByRole("button", { name: "Go on" }).waitFor();
    await check("completion");
  });
}
