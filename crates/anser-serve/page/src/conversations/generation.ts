// Answers that are being generated: at most one in each conversation.

import { type ChatMessage, streamChat } from "../api/chat";
import { isAbort, problemOf } from "../api/client";
import type { WireUsage } from "../api/usage";
import { connect, requestModel } from "../connection";
import { samplingFields } from "../settings/sampling";
import { Store } from "../store";
import { change, find, writeNow } from "./library";
import { added, changedMessage, chosen, type Conversation, type Cost, type End, type Message, newMessage, pathTo } from "./tree";

/** The conversations whose answers are being generated, with what ends them. */
export const running = new Store<ReadonlyMap<string, AbortController>>(new Map());

/** The text of the answer that was completed last, for screen readers. */
export const announcement = new Store("");

/** Adds a message of the user below `parent`, and an answer to it. */
export function ask(conversationId: string, parent: string | null, text: string): void {
  const question = newMessage("user", text);
  change(conversationId, (conversation) => added(conversation, parent, question));
  answer(conversationId, question.id);
}

/** Adds an answer below a message of the user. */
export function answer(conversationId: string, question: string): void {
  const reply = newMessage("assistant", "");
  change(conversationId, (conversation) => added(conversation, question, reply));
  void generate(conversationId, reply.id);
}

/** Generates an answer anew in its place, after it failed. */
export function retry(conversationId: string, id: string): void {
  change(conversationId, (conversation) =>
    changedMessage(chosen(conversation, id), id, (reply) => ({ ...reply, content: "", thought: "", thoughtMs: null })),
  );
  void generate(conversationId, id);
}

/** Goes on with an answer that was cut. */
export function goOn(conversationId: string, id: string): void {
  void generate(conversationId, id);
}

export function stop(conversationId: string): void {
  running.value.get(conversationId)?.abort();
}

/** What the model reads. The answer comes last if a part of it is there. */
export function chatMessages(conversation: Conversation, id: string): ChatMessage[] {
  const { system } = conversation.settings;
  const path = pathTo(conversation, id).filter((message) => message.content !== "");
  const messages: ChatMessage[] = path.map(({ role, content }) => ({ role, content }));
  return system.trim() === "" ? messages : [{ role: "system", content: system }, ...messages];
}

async function generate(conversationId: string, id: string): Promise<void> {
  const conversation = find(conversationId);
  if (!conversation || running.value.has(conversationId)) return;
  const controller = new AbortController();
  running.update((all) => new Map(all).set(conversationId, controller));
  const writer = new AnswerWriter(conversationId, id);
  try {
    const { model, thinking, sampling, maxTokens, seed, state } = conversation.settings;
    const request = {
      model: requestModel(model),
      messages: chatMessages(conversation, id),
      reasoning_effort: thinking,
      ...(state === "" ? {} : { state }),
      ...(maxTokens === null ? {} : { max_tokens: maxTokens }),
      ...(seed === null ? {} : { seed }),
      ...samplingFields(sampling),
    };
    for await (const piece of streamChat(request, controller.signal)) {
      writer.add(piece.thought, piece.content);
      if (piece.finish !== null) writer.end(piece.finish === "length" ? "length" : "stop");
      if (piece.usage) writer.count(piece.usage);
    }
  } catch (thrown) {
    if (isAbort(thrown)) {
      writer.end("stopped");
    } else {
      const problem = problemOf(thrown);
      writer.fail(problem);
      if (problem.status === 401 || problem.code === "unreachable") void connect();
    }
  } finally {
    writer.close();
    running.update((all) => new Map([...all].filter(([key]) => key !== conversationId)));
    writeNow();
  }
}

/** How often a growing answer is shown, in milliseconds: as often as people see. A timer also runs while the page is hidden. */
const SHOW_PERIOD = 30;

/** Writes an answer into its conversation. */
class AnswerWriter {
  #change: Partial<Message> = { end: null, problem: null, cost: null };
  #content: string;
  #thought: string;
  #began = performance.now();
  #firstAt: number | null = null;
  #lastAt = 0;
  #thoughtMs: number | null;
  #timer: number | null = null;

  constructor(
    private readonly conversationId: string,
    private readonly id: string,
  ) {
    const message = find(conversationId)?.messages[id];
    this.#content = message?.content ?? "";
    this.#thought = message?.thought ?? "";
    this.#thoughtMs = message?.thoughtMs ?? null;
    this.#write();
  }

  add(thought: string, content: string): void {
    if (thought === "" && content === "") return;
    this.#lastAt = performance.now();
    this.#firstAt ??= this.#lastAt;
    this.#thought += thought;
    this.#content += content;
    if (this.#thought !== "" && content !== "") this.#thoughtMs ??= this.#lastAt - this.#began;
    this.#timer ??= window.setTimeout(() => this.#write(), SHOW_PERIOD);
  }

  end(end: End): void {
    if (this.#thought !== "") this.#thoughtMs ??= performance.now() - this.#began;
    this.#change.end = end;
  }

  fail(problem: Message["problem"]): void {
    this.end("failed");
    this.#change.problem = problem;
  }

  count(usage: WireUsage): void {
    this.#change.cost = costOf(usage, this.#firstAt === null ? 0 : this.#lastAt - this.#firstAt);
  }

  close(): void {
    if (this.#timer !== null) window.clearTimeout(this.#timer);
    this.#change.end ??= "stopped";
    this.#write();
    if (this.#change.end !== "failed") announcement.set(this.#content);
  }

  #write(): void {
    this.#timer = null;
    const written = { ...this.#change, content: this.#content, thought: this.#thought, thoughtMs: this.#thoughtMs };
    change(this.conversationId, (conversation) => changedMessage(conversation, this.id, (message) => ({ ...message, ...written })));
  }
}

/** `ms`: the time from the first piece to the last one, in which all tokens but the first were generated. */
function costOf(usage: WireUsage, ms: number): Cost {
  const nGenerated = usage.completion_tokens;
  return {
    nGenerated,
    nPrompt: usage.prompt_tokens,
    nCached: usage.prompt_tokens_details?.cached_tokens ?? 0,
    tokensPerSecond: ms > 0 && nGenerated > 1 ? ((nGenerated - 1) * 1000) / ms : null,
  };
}
