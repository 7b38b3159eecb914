// A conversation as a tree of messages. Editing a message or asking for another answer makes a sibling; what is shown is the path
// from the root along the chosen children. All functions return changed copies.

import type { Problem } from "../api/client";
import { identifier } from "../identifier";
import type { Settings } from "../settings/conversation";

/** Why an answer ended: by itself, by its greatest length, by the user, or by a problem. */
export type End = "stop" | "length" | "stopped" | "failed";

/** What an answer took. Times are in milliseconds. */
export interface Cost {
  /** Tokens that were generated, thoughts among them. */
  nGenerated: number;
  nPrompt: number;
  /** Tokens of the prompt that the server had read before. */
  nCached: number;
  tokensPerSecond: number | null;
}

export interface Message {
  id: string;
  /** Null for the first message. */
  parent: string | null;
  role: "user" | "assistant";
  content: string;
  thought: string;
  /** How long the model thought; null while it thinks, and where it did not. */
  thoughtMs: number | null;
  /** Milliseconds since 1970. */
  created: number;
  /** Null while the answer is generated. Messages of the user have ended. */
  end: End | null;
  problem: Problem | null;
  cost: Cost | null;
  children: string[];
  /** The index of the child that is shown. */
  chosen: number;
}

export interface Conversation {
  id: string;
  title: string;
  /** Milliseconds since 1970. */
  created: number;
  updated: number;
  settings: Settings;
  messages: Record<string, Message>;
  /** First messages: the conversation's own siblings. */
  roots: string[];
  chosenRoot: number;
}

export function newConversation(settings: Settings): Conversation {
  const now = Date.now();
  const id = identifier();
  return { id, title: "", created: now, updated: now, settings, messages: {}, roots: [], chosenRoot: 0 };
}

/** A message without children, not yet part of a conversation. */
export function newMessage(role: Message["role"], content: string): Message {
  return {
    id: identifier(),
    parent: null,
    role,
    content,
    thought: "",
    thoughtMs: null,
    created: Date.now(),
    end: role === "user" ? "stop" : null,
    problem: null,
    cost: null,
    children: [],
    chosen: 0,
  };
}

/** The messages that are shown, the first one first. */
export function shownPath(conversation: Conversation): Message[] {
  const path: Message[] = [];
  let id = conversation.roots[conversation.chosenRoot];
  while (id !== undefined) {
    const message: Message | undefined = conversation.messages[id];
    if (!message) break;
    path.push(message);
    id = message.children[message.chosen];
  }
  return path;
}

/** The messages from the first one to `id`. */
export function pathTo(conversation: Conversation, id: string | null): Message[] {
  const path: Message[] = [];
  while (id !== null) {
    const message: Message | undefined = conversation.messages[id];
    if (!message) break;
    path.unshift(message);
    id = message.parent;
  }
  return path;
}

/** The message and its alternatives, the oldest one first. */
export function siblings(conversation: Conversation, message: Message): string[] {
  if (message.parent === null) return conversation.roots;
  return conversation.messages[message.parent]?.children ?? [];
}

/** Adds a message below `parent` and shows it. */
export function added(conversation: Conversation, parent: string | null, message: Message): Conversation {
  const child = { ...message, parent };
  const messages = { ...conversation.messages, [child.id]: child };
  const changed = { ...conversation, messages, updated: Date.now() };
  if (parent === null) {
    return { ...changed, roots: [...conversation.roots, child.id], chosenRoot: conversation.roots.length };
  }
  const above = conversation.messages[parent];
  if (above) messages[parent] = { ...above, children: [...above.children, child.id], chosen: above.children.length };
  return changed;
}

/** Shows the message in place of its siblings. */
export function chosen(conversation: Conversation, id: string): Conversation {
  const message = conversation.messages[id];
  if (!message) return conversation;
  const index = siblings(conversation, message).indexOf(id);
  if (message.parent === null) return { ...conversation, chosenRoot: index };
  return changedMessage(conversation, message.parent, (above) => ({ ...above, chosen: index }));
}

export function changedMessage(conversation: Conversation, id: string, change: (message: Message) => Message): Conversation {
  const message = conversation.messages[id];
  if (!message) return conversation;
  return { ...conversation, messages: { ...conversation.messages, [id]: change(message) } };
}

/** What a conversation is called: its title, or the beginning of its first message. */
export function titleOf(conversation: Conversation): string {
  if (conversation.title !== "") return conversation.title;
  const first = conversation.messages[conversation.roots[0] ?? ""]?.content.trim().split("\n")[0] ?? "";
  const characters = Array.from(first);
  if (characters.length === 0) return "New conversation";
  return characters.length > 60 ? `${characters.slice(0, 60).join("")}…` : first;
}

/** Whether the title or a message contains all words of the query. */
export function matches(conversation: Conversation, query: string): boolean {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return true;
  const texts = [titleOf(conversation), ...Object.values(conversation.messages).map((message) => message.content)];
  const text = texts.join("\n").toLowerCase();
  return words.every((word) => text.includes(word));
}
