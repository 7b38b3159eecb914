// `/v1/states`: texts that the server has read once, and `/apply-template`: the text of a conversation.

import type { ChatMessage } from "./chat";
import { send, sendForJson } from "./client";

export interface NamedState {
  id: string;
  model: string;
  /** Seconds since 1970. */
  created: number;
  /** Null for a state from a file. */
  n_tokens: number | null;
  n_bytes: number;
}

const path = (name: string) => `v1/states/${encodeURIComponent(name)}`;

export async function listStates(): Promise<NamedState[]> {
  const { data } = await sendForJson<{ data: NamedState[] }>("v1/states");
  return data;
}

/** Reads a text and keeps the state after it. `state`: the state to go on from. */
export async function createState(fields: { model: string | null; name: string; input: string; state?: string }): Promise<NamedState> {
  return sendForJson<NamedState>("v1/states", { json: fields });
}

export async function deleteState(name: string): Promise<void> {
  await send(path(name), { method: "DELETE" });
}

/** The state as a safetensors file. */
export async function downloadState(name: string): Promise<Blob> {
  return (await send(`${path(name)}/file`)).blob();
}

export async function uploadState(name: string, file: Blob, model: string | null): Promise<void> {
  const query = model === null ? "" : `?model=${encodeURIComponent(model)}`;
  await send(`${path(name)}/file${query}`, { method: "PUT", file });
}

/**
 * The text of a conversation as the model reads it, up to the end of its last turn.
 *
 * The template ends with the opening of an answer. A state must not: another turn of the user may follow it. So the conversation is
 * rendered with one more turn, and what that turn alone looks like is taken off again.
 */
export async function textOfTurns(model: string | null, messages: ChatMessage[]): Promise<string> {
  const render = async (messages: ChatMessage[]) =>
    (await sendForJson<{ prompt: string }>("apply-template", { json: { model, messages } })).prompt;
  const turn: ChatMessage = { role: "user", content: "x" };
  const [text, end] = await Promise.all([render([...messages, turn]), render([turn])]);
  return text.endsWith(end) ? text.slice(0, text.length - end.length) : render(messages);
}
