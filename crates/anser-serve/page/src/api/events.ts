// Server-sent events of an answer. `EventSource` cannot be used, since it sends no POST and no key.

import { ApiError, isAbort, problemFrom } from "./client";

/** The JSON of each event up to `[DONE]`. Throws if an event is an error or the stream ends early. */
export async function* eventsOf(response: Response): AsyncGenerator<unknown> {
  const unfinished = { message: "The connection ended before the answer was complete.", status: 0, code: "unfinished" };
  if (!response.body) throw new ApiError(unfinished);
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      text += decoder.decode(read.value, { stream: true });
      const events = text.split("\n\n");
      text = events.pop() ?? "";
      for (const event of events) {
        const data = dataOf(event);
        if (data === "[DONE]") return;
        if (data === "") continue;
        const json: unknown = JSON.parse(data);
        if (typeof json === "object" && json !== null && "error" in json) throw new ApiError(problemFrom(json, 0));
        yield json;
      }
    }
  } catch (thrown) {
    if (thrown instanceof ApiError || isAbort(thrown)) throw thrown;
    throw new ApiError(unfinished);
  }
  throw new ApiError(unfinished);
}

/** The data of an event; empty for a comment. */
function dataOf(event: string): string {
  const lines = event.split("\n").filter((line) => line.startsWith("data:"));
  return lines.map((line) => line.slice(5).replace(/^ /, "")).join("\n");
}
