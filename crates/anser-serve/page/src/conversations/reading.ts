// Conversations in JSON that may have any form: files that are imported.

import { identifier } from "../identifier";
import { type JsonObject, numberIn, objectIn, oneOf, textIn } from "../json";
import { settingsIn } from "../settings/conversation";
import type { Conversation, Cost, Message } from "./tree";

const FORMAT = "anser-conversations";
const ROLES = ["user", "assistant"] as const;
const ENDS = ["stopped", "stop", "length", "failed"] as const;

/** The text of a file with the conversations. */
export function fileOf(conversations: Conversation[]): string {
  return JSON.stringify({ format: FORMAT, version: 1, conversations }, null, 1);
}

/**
 * The conversations of such a file. They get identifiers of their own, so that none takes the place of another.
 * Throws an error that says what is wrong.
 */
export function conversationsIn(text: string): Conversation[] {
  let file: JsonObject;
  try {
    file = objectIn(JSON.parse(text));
  } catch {
    throw new Error("The file is not JSON.");
  }
  const conversations = file["conversations"];
  if (file["format"] !== FORMAT || !Array.isArray(conversations)) {
    throw new Error(`The file has no conversations of this page: expected "format": "${FORMAT}".`);
  }
  if (file["version"] !== 1) throw new Error("The file is of a later version of this page.");
  return conversations.map(conversationIn);
}

/** A conversation whose tree is whole: what no root leads to is left out. */
export function conversationIn(value: unknown): Conversation {
  const fields = objectIn(value);
  const given = new Map(Object.entries(objectIn(fields["messages"])));
  const messages: Record<string, Message> = {};
  const read = (id: unknown, parent: string | null): string[] => {
    const source = typeof id === "string" ? given.get(id) : undefined;
    if (source === undefined) return [];
    given.delete(id as string); // No message has two places.
    const message = messageIn(source, parent);
    messages[message.id] = message;
    pending.push({ message, children: listIn(objectIn(source)["children"]) });
    return [message.id];
  };
  const pending: { message: Message; children: unknown[] }[] = [];
  const roots = listIn(fields["roots"]).flatMap((id) => read(id, null));
  for (let next = pending.pop(); next; next = pending.pop()) {
    const { message, children } = next;
    message.children = children.flatMap((id) => read(id, message.id));
    message.chosen = indexIn(message.chosen, message.children);
  }
  const now = Date.now();
  return {
    id: identifier(),
    title: textIn(fields["title"]),
    created: numberIn(fields["created"]) ?? now,
    updated: numberIn(fields["updated"]) ?? now,
    settings: settingsIn(fields["settings"]),
    messages,
    roots,
    chosenRoot: indexIn(fields["chosenRoot"], roots),
  };
}

function messageIn(value: unknown, parent: string | null): Message {
  const fields = objectIn(value);
  return {
    id: identifier(),
    parent,
    role: oneOf(fields["role"], ROLES),
    content: textIn(fields["content"]),
    thought: textIn(fields["thought"]),
    thoughtMs: numberIn(fields["thoughtMs"]),
    created: numberIn(fields["created"]) ?? Date.now(),
    end: oneOf(fields["end"], ENDS),
    problem: problemIn(fields["problem"]),
    cost: costIn(fields["cost"]),
    children: [],
    chosen: numberIn(fields["chosen"]) ?? 0,
  };
}

function problemIn(value: unknown): Message["problem"] {
  const { message, status, code } = objectIn(value);
  if (typeof message !== "string") return null;
  return { message, status: numberIn(status) ?? 0, code: typeof code === "string" ? code : null };
}

function costIn(value: unknown): Cost | null {
  const { nGenerated, nPrompt, nCached, tokensPerSecond } = objectIn(value);
  const [generated, prompt, cached] = [numberIn(nGenerated), numberIn(nPrompt), numberIn(nCached)];
  if (generated === null || prompt === null || cached === null) return null;
  return { nGenerated: generated, nPrompt: prompt, nCached: cached, tokensPerSecond: numberIn(tokensPerSecond) };
}

function listIn(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function indexIn(value: unknown, list: unknown[]): number {
  const index = numberIn(value) ?? 0;
  return Number.isInteger(index) && index >= 0 && index < list.length ? index : 0;
}
