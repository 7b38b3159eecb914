// `POST /v1/chat/completions`, streamed.

import { send } from "./client";
import { eventsOf } from "./events";
import type { WireUsage } from "./usage";

export interface ChatMessage {
  role: "system" | "user" | "assistant";
  content: string;
}

/** The fields of a request besides those for streaming. */
export interface ChatRequest {
  /** Null asks for the only one. */
  model: string | null;
  messages: ChatMessage[];
  state?: string;
  reasoning_effort?: "none" | "low" | "medium" | "high";
  [sampling: string]: unknown;
}

/** A piece of an answer. */
export interface ChatPiece {
  content: string;
  thought: string;
  /** Why the answer ended, in its last piece. */
  finish: string | null;
  usage: WireUsage | null;
}

interface WireChunk {
  choices?: { delta?: { content?: string | null; reasoning_content?: string | null }; finish_reason?: string | null }[];
  usage?: WireUsage | null;
}

/** The pieces of an answer as they arrive. */
export async function* streamChat(request: ChatRequest, signal: AbortSignal): AsyncGenerator<ChatPiece> {
  const json = { ...request, stream: true, stream_options: { include_usage: true } };
  const response = await send("v1/chat/completions", { json, signal });
  for await (const event of eventsOf(response)) {
    const chunk = event as WireChunk;
    const choice = chunk.choices?.[0];
    yield {
      content: choice?.delta?.content ?? "",
      thought: choice?.delta?.reasoning_content ?? "",
      finish: choice?.finish_reason ?? null,
      usage: chunk.usage ?? null,
    };
  }
}
