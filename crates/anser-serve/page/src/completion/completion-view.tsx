import { useState } from "preact/hooks";
import { ConnectionProblem, ProblemBox } from "../chat/problem";
import { number } from "../format";
import { StopIcon } from "../icons";
import { useStore } from "../store";
import { ViewHeader } from "../view-header";
import { CompletionSettingsFields } from "./completion-settings";
import { draft, edit, generate, score, setPrompt, stop } from "./draft";
import { TokenPanel } from "./token-panel";
import { TokenText } from "./token-text";
import { perplexity } from "./tokens";

/** A text that the model continues, with the probabilities of its tokens. */
export function CompletionView() {
  const { prompt, tokens, problem, running } = useStore(draft, (value) => value);
  const [last, select] = useState(0);
  // A new text may be shorter than the one whose token was selected.
  const selected = Math.max(0, Math.min(last, tokens.length - 1));
  const token = tokens[selected];
  const surprise = perplexity(tokens);
  return (
    <>
      <ViewHeader name="Completion" title={<h1 class="title">Completion</h1>} />
      <div class="completion">
        <div class="completion-main">
          {tokens.length === 0 ? (
            <textarea
              class="text"
              aria-label="Text"
              placeholder="Write the beginning of a text; the model goes on"
              value={prompt}
              disabled={running !== null}
              onInput={(event) => setPrompt(event.currentTarget.value)}
              onKeyDown={(event) => {
                if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) void generate();
              }}
            />
          ) : (
            <TokenText prompt={prompt} tokens={tokens} selected={selected} onSelect={select} />
          )}
          {problem ? <ProblemBox problem={problem} onRetry={() => void generate()} /> : <ConnectionProblem />}
          <div class="row">
            {running ? (
              <button type="button" class="primary" onClick={stop}>
                <StopIcon />
                Stop
              </button>
            ) : (
              <button type="button" class="primary" onClick={() => void generate()}>
                {tokens.length === 0 ? "Generate" : "Go on"}
              </button>
            )}
            {tokens.length > 0 && (
              <button type="button" class="plain" disabled={running !== null} onClick={edit}>
                Edit
              </button>
            )}
            <button type="button" class="plain" disabled={running !== null || (prompt === "" && tokens.length === 0)} onClick={() => void score()}>
              Score the text
            </button>
            {surprise !== null && (
              <span class="figures">
                {number(tokens.length)} tokens · perplexity {surprise.toFixed(2)}
              </span>
            )}
          </div>
          <CompletionSettingsFields />
        </div>
        {tokens.length > 0 && <TokenPanel token={token} index={selected} isLocked={running !== null} />}
      </div>
    </>
  );
}
