// The server through the official Node package. scripts/test-serve starts it and sets OPENAI_BASE_URL and OPENAI_API_KEY.
import assert from "node:assert/strict";
import test from "node:test";
import OpenAI from "openai";

const model = "demo";
const client = new OpenAI({ maxRetries: 0 });
const messages = [{ role: "user", content: "Tell me a story about a fox." }];

test("a chat is the same whole and streamed", async () => {
  const ask = { model, messages, max_tokens: 20, temperature: 0 };
  const whole = await client.chat.completions.create(ask);
  const stream = client.chat.completions.stream({ ...ask, stream_options: { include_usage: true } });
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
  assert.equal(text, whole.choices[0].message.content);
  assert.equal((await stream.totalUsage()).completion_tokens, 20);
});

test("a function is run", async () => {
  const parameters = {
    type: "object", properties: { colour: { enum: ["red", "green"] } }, required: ["colour"], additionalProperties: false,
  };
  const seen = [];
  const paint = ({ colour }) => { seen.push(colour); return "done"; };
  const runner = client.chat.completions.runTools({
    model, messages, max_tokens: 200, tool_choice: { type: "function", function: { name: "paint" } },
    tools: [{ type: "function", function: { name: "paint", parse: JSON.parse, function: paint, parameters } }],
  }, { maxChatCompletions: 2 });
  await runner.finalMessage().catch(() => {}); // the second answer may call again
  assert.ok(seen.length > 0 && seen.every((colour) => parameters.properties.colour.enum.includes(colour)));
});

test("embeddings are unpacked", async () => {
  const packed = await client.embeddings.create({ model, input: ["one text", "another"] });
  const plain = await client.embeddings.create({ model, input: ["one text", "another"], encoding_format: "float" });
  plain.data.forEach((row, i) => row.embedding.forEach((x, j) => assert.ok(Math.abs(x - packed.data[i].embedding[j]) < 1e-5)));
});

test("responses go on", async () => {
  const first = await client.responses.create({ model, input: "What is 17 + 26?", max_output_tokens: 16, temperature: 0 });
  const stream = client.responses.stream({ model, input: "And?", previous_response_id: first.id, max_output_tokens: 16 });
  let text = "";
  for await (const event of stream) if (event.type === "response.output_text.delta") text += event.delta;
  assert.equal((await stream.finalResponse()).output_text, text);
});

test("errors have their types", async () => {
  await assert.rejects(client.chat.completions.create({ model, messages: [] }), OpenAI.BadRequestError);
  await assert.rejects(client.chat.completions.create({ model: "none", messages }), OpenAI.NotFoundError);
  await assert.rejects(new OpenAI({ apiKey: "wrong", maxRetries: 0 }).models.list(), OpenAI.AuthenticationError);
});
