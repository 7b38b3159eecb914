import { duration } from "../format";
import type { Message } from "../conversations/tree";

/** What the model thought before it answered, folded. */
export function Thought({ message: { thought, thoughtMs, end } }: { message: Message }) {
  const isThinking = end === null && thoughtMs === null;
  const title = isThinking ? "Thinking…" : thoughtMs === null ? "Thought" : `Thought for ${duration(thoughtMs)}`;
  return (
    <details class="thought">
      <summary class={isThinking ? "is-thinking" : undefined}>{title}</summary>
      <div class="thought-text">{thought.trim()}</div>
    </details>
  );
}
