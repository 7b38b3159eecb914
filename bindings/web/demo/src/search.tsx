import { count } from "@page/format";
import type { Model } from "anser-web";
import { useEffect, useRef, useState } from "preact/hooks";
import { announcement, messageOf } from "./engine";
import { likeness, meanOf, passagesOf } from "./vectors";

const EXAMPLE = `Rusty the fox lived in a hollow tree at the edge of the forest.
Your invoice of 42 euros is due on Monday.
The little rabbit was afraid of the dark.
Thank you for your order: it was sent this morning.
One sunny day the children played by the river.
Please tell me when the parcel arrives.
Seventeen and twenty-six make forty-three.
The owl knew the way home and showed it to the mouse.
We are sorry that the payment did not go through.`;

interface Index {
  passages: string[];
  rows: Float32Array[];
  centre: Float32Array;
}

interface Hit {
  passage: string;
  likeness: number;
}

/** Finds passages of a text that are near to a question in meaning. */
export function SearchView({ model }: { model: Model; isShown: boolean }) {
  const [text, setText] = useState(EXAMPLE);
  const [query, setQuery] = useState("an animal in the wood");
  const [hits, setHits] = useState<Hit[] | null>(null);
  const [progress, setProgress] = useState<string | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const index = useRef<Index | null>(null);
  const running = useRef<AbortController | null>(null);
  useEffect(() => () => running.current?.abort(), []);

  const embed = (texts: string[], signal: AbortSignal) =>
    model.embed(texts, {
      ...(model.info.hasLogits && { pooling: "mean" as const }),
      signal,
      onProgress: ({ loaded, total }) => setProgress(`Reading: ${loaded} of ${count(total, "passage")}`),
    });
  const search = async () => {
    const controller = new AbortController();
    running.current = controller;
    setProblem(null);
    setProgress("Reading …");
    try {
      const passages = passagesOf(text);
      if (index.current?.passages.join("\n") !== passages.join("\n")) {
        const rows = await embed(passages, controller.signal);
        index.current = { passages, rows, centre: meanOf(rows) };
      }
      const { rows, centre } = index.current ?? { rows: [], centre: new Float32Array() };
      const [asked] = await embed([query], controller.signal);
      if (!asked) return;
      const found = passages.map((passage, i) => ({ passage, likeness: likeness(asked, rows[i] ?? centre, centre) }));
      found.sort((a, b) => b.likeness - a.likeness);
      setHits(found);
      announcement.set(found[0] ? `Nearest: ${found[0].passage}` : "There is no passage.");
    } catch (error) {
      if (!controller.signal.aborted) setProblem(messageOf(error));
    } finally {
      running.current = null;
      setProgress(null);
    }
  };
  return (
    <div class="wide-column">
      <div class="lead-row">
        <h2>Search by meaning</h2>
        <p class="muted">Each sentence becomes a row of {model.info.nEmbd} numbers; those that point where the question’s do are near to it.</p>
      </div>
      <label class="field">
        <span>Text to search</span>
        <textarea rows={8} value={text} onInput={(event) => setText(event.currentTarget.value)} />
      </label>
      <form
        class="row ask"
        onSubmit={(event) => {
          event.preventDefault();
          void search();
        }}
      >
        <label class="field grow">
          <span>Question</span>
          <input type="text" value={query} onInput={(event) => setQuery(event.currentTarget.value)} />
        </label>
        {progress === null ? (
          <button type="submit" class="primary" disabled={query.trim() === ""}>
            Search
          </button>
        ) : (
          <button type="button" class="plain" onClick={() => running.current?.abort()}>
            Stop
          </button>
        )}
      </form>
      {progress !== null && <p class="muted">{progress}</p>}
      {problem !== null && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      {hits && (
        <ol class="hits" aria-label="Passages, the nearest first">
          {hits.slice(0, 12).map(({ passage, likeness }, i) => (
            <li key={`${i} ${passage}`}>
              <span class="hit-text">{passage}</span>
              <span class="muted">{likeness.toFixed(2)}</span>
              <i style={{ width: `${Math.max(likeness, 0) * 100}%` }} />
            </li>
          ))}
        </ol>
      )}
    </div>
  );
}
