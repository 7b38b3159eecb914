// All conversations, and their way to the database.

import { count } from "../format";
import { notify } from "../notice";
import { keepUsualSettings, type Settings } from "../settings/conversation";
import { Store } from "../store";
import * as database from "./database";
import { type Conversation, titleOf } from "./tree";

/** By identifier. Null until they have been read. */
export const library = new Store<ReadonlyMap<string, Conversation> | null>(null);

/** A conversation that changes all the time, as an answer does while it is generated, is written this often, in milliseconds. */
const WRITE_PERIOD = 1000;

/** The timers of conversations that were written within the last period, by identifier. */
const waiting = new Map<string, number>();
/** The conversations that have changed since they were written. */
const changed = new Set<string>();

/** Tells the other tabs of the browser which conversation was written. */
const channel = new BroadcastChannel("anser-conversations");

export async function loadLibrary(): Promise<void> {
  channel.onmessage = (event: MessageEvent<string>) => void readAgain(event.data);
  try {
    const conversations = await database.readAll();
    library.set(new Map(conversations.map((conversation) => [conversation.id, interrupted(conversation)])));
  } catch {
    library.set(new Map());
    notify({ text: "This browser keeps no conversations: they last until the page is closed." });
  }
  addEventListener("pagehide", writeNow);
}

/** Answers that were being generated when the page was closed have ended. */
function interrupted(conversation: Conversation): Conversation {
  const messages = Object.entries(conversation.messages);
  const ended = messages.map(([id, message]) => [id, message.end === null ? { ...message, end: "stopped" } : message]);
  return { ...conversation, messages: Object.fromEntries(ended) as Conversation["messages"] };
}

/** The conversations, the one that was used last first. */
export function byTime(conversations: ReadonlyMap<string, Conversation>): Conversation[] {
  return [...conversations.values()].sort((a, b) => b.updated - a.updated);
}

export function find(id: string): Conversation | undefined {
  return library.value?.get(id);
}

/** Keeps a conversation, new or changed. */
export function keep(conversation: Conversation): void {
  const { id } = conversation;
  library.update((conversations) => new Map(conversations).set(id, conversation));
  changed.add(id);
  if (!waiting.has(id)) write(id);
}

export function change(id: string, by: (conversation: Conversation) => Conversation): void {
  const conversation = find(id);
  if (conversation) keep(by(conversation));
}

export function changeSettings(id: string, settings: Settings): void {
  keepUsualSettings(settings);
  change(id, (conversation) => ({ ...conversation, settings }));
}

/** Writes what has changed without waiting for its time. */
export function writeNow(): void {
  for (const id of [...changed]) write(id);
}

function write(id: string): void {
  forget(id);
  const conversation = find(id);
  if (!conversation) return;
  waiting.set(id, window.setTimeout(() => (changed.has(id) ? write(id) : forget(id)), WRITE_PERIOD));
  database.write(conversation).then(
    () => channel.postMessage(id),
    () => notify({ text: "The browser could not store the conversation." }),
  );
}

/** Takes over what another tab has written, unless this one has changes of its own. */
async function readAgain(id: string): Promise<void> {
  const conversation = await database.read(id);
  if (changed.has(id)) return;
  library.update((all) => {
    const others = new Map(all);
    if (conversation) others.set(id, conversation);
    else others.delete(id);
    return others;
  });
}

/** There is nothing to write of this conversation. */
function forget(id: string): void {
  window.clearTimeout(waiting.get(id));
  waiting.delete(id);
  changed.delete(id);
}

/** Deletes conversations; the notice about it can bring them back. */
export function remove(conversations: Conversation[]): void {
  const ids = new Set(conversations.map((conversation) => conversation.id));
  library.update((all) => new Map([...(all ?? [])].filter(([id]) => !ids.has(id))));
  for (const id of ids) {
    forget(id);
    database.erase(id).then(
      () => channel.postMessage(id),
      () => notify({ text: "The browser could not delete the conversation." }),
    );
  }
  const [first] = conversations;
  if (!first) return;
  const what = conversations.length === 1 ? `“${titleOf(first)}”` : count(conversations.length, "conversation");
  notify({ text: `Deleted ${what}.`, action: { label: "Undo", act: () => conversations.map(interrupted).forEach(keep) } });
}
