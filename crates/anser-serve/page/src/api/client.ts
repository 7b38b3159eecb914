// Requests to the server that the page came from.

import { key } from "../settings/key";

/** The reason for which a request was not answered. */
export interface Problem {
  message: string;
  /** The HTTP status; 0 if there was no answer. */
  status: number;
  /** The code for programs, such as `invalid_api_key`. */
  code: string | null;
}

export class ApiError extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.message);
    this.problem = problem;
  }
}

/** What went wrong, whatever was thrown. */
export function problemOf(thrown: unknown): Problem {
  if (thrown instanceof ApiError) return thrown.problem;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return { message, status: 0, code: null };
}

/** Whether the request was ended by the page itself. */
export function isAbort(thrown: unknown): boolean {
  return thrown instanceof DOMException && thrown.name === "AbortError";
}

export interface Sending {
  method?: "GET" | "POST" | "PUT" | "DELETE";
  /** Sent as JSON. */
  json?: unknown;
  /** Sent as it is. */
  file?: Blob;
  signal?: AbortSignal;
}

/** Sends a request; throws an `ApiError` unless it succeeds. The path is relative to the page, which a proxy may have put anywhere. */
export async function send(path: string, { method, json, file, signal }: Sending = {}): Promise<Response> {
  const headers = new Headers();
  if (key.value !== "") headers.set("Authorization", `Bearer ${key.value}`);
  if (json !== undefined) headers.set("Content-Type", "application/json");
  const body = json === undefined ? (file ?? null) : JSON.stringify(json);
  const options: RequestInit = { method: method ?? (body === null ? "GET" : "POST"), headers, body, cache: "no-store" };
  if (signal) options.signal = signal;
  let response: Response;
  try {
    response = await fetch(new URL(path, document.baseURI), options);
  } catch (thrown) {
    if (isAbort(thrown)) throw thrown;
    throw new ApiError({ message: "The server cannot be reached.", status: 0, code: "unreachable" });
  }
  if (!response.ok) throw new ApiError(await problemIn(response));
  return response;
}

/** Sends a request whose answer is JSON. */
export async function sendForJson<T>(path: string, sending: Sending = {}): Promise<T> {
  const response = await send(path, sending);
  return (await response.json()) as T;
}

async function problemIn(response: Response): Promise<Problem> {
  const status = response.status;
  const text = await response.text().catch(() => "");
  try {
    return problemFrom(JSON.parse(text), status);
  } catch {
    // Not this server's answer, but one of a proxy before it.
    return { message: `The server answered with status ${status}.`, status, code: null };
  }
}

/** The problem that an error object of the API tells. */
export function problemFrom(body: unknown, status: number): Problem {
  const error = (body as { error?: { message?: unknown; code?: unknown } } | null)?.error;
  const message = typeof error?.message === "string" ? error.message : `The server answered with status ${status}.`;
  return { message, status, code: typeof error?.code === "string" ? error.code : null };
}
