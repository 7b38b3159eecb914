import { TokenText } from "@page/completion/token-text";
import { perplexity, visible, type ScoredToken } from "@page/completion/tokens";
import { Segments } from "@page/dialogs/segments";
import { number, percent } from "@page/format";
import type { DrawnToken, Model, Session } from "anser-web";
import { useEffect, useRef, useState } from "preact/hooks";
import { announcement, messageOf } from "./engine";

const PRESETS = [
  { value: "default", label: "Balanced" },
  { value: "plain", label: "Free" },
  { value: "greedy", label: "Exact" },
] as const;

type Preset = (typeof PRESETS)[number]["value"];

function scored({ text, logProbability, top }: DrawnToken): ScoredToken {
  const alternatives = (top ?? []).map(({ text, logProbability }) => ({ text, probability: Math.exp(logProbability) }));
  return { text, probability: logProbability === undefined ? null : Math.exp(logProbability), alternatives };
}

/** A text that the model goes on with, and how likely each of its tokens was. */
export function CompletionView({ model }: { model: Model; isShown: boolean }) {
  const [prompt, setPrompt] = useState("Once upon a time, there was a little fox named Rusty.");
  const [preset, setPreset] = useState<Preset>("default");
  const [tokens, setTokens] = useState<ScoredToken[]>([]);
  const [selected, setSelected] = useState(0);
  const [isRunning, setRunning] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const running = useRef<AbortController | null>(null);
  useEffect(() => () => running.current?.abort(), []);

  /** Goes on after the prompt and the first tokens. */
  const run = async (before: ScoredToken[], n: number) => {
    const controller = new AbortController();
    running.current = controller;
    setRunning(true);
    setProblem(null);
    setTokens(before);
    let session: Session | null = null;
    let all = before;
    try {
      session = await model.session();
      const text = prompt + before.map((token) => token.text).join("");
      const options = { sampling: { preset }, maxTokens: n, probabilities: 8, signal: controller.signal };
      for await (const step of session.generate(text, options).steps()) {
        all = [...all, ...step.tokens.map(scored)];
        setTokens(all);
        setSelected(all.length - 1);
      }
      announcement.set(all.slice(before.length).map((token) => token.text).join(""));
    } catch (error) {
      setProblem(messageOf(error));
    } finally {
      await session?.close().catch(() => {});
      running.current = null;
      setRunning(false);
    }
  };

  const token = tokens[selected];
  const surprise = perplexity(tokens);
  return (
    <div class="completion">
      <div class="completion-main">
        <h2 class="hidden">Completion</h2>
        {tokens.length > 0 ? (
          <TokenText prompt={prompt} tokens={tokens} selected={selected} onSelect={setSelected} />
        ) : (
          <textarea class="text" aria-label="Text to go on with" value={prompt} onInput={(event) => setPrompt(event.currentTarget.value)} />
        )}
        {problem !== null && (
          <p class="problem" role="alert">
            {problem}
          </p>
        )}
        <div class="row">
          {isRunning ? (
            <button type="button" class="primary" onClick={() => running.current?.abort()}>
              Stop
            </button>
          ) : (
            <button type="button" class="primary" onClick={() => void run(tokens, 80)}>
              {tokens.length > 0 ? "Go on" : "Complete"}
            </button>
          )}
          {tokens.length > 0 && (
            <button
              type="button"
              class="plain"
              disabled={isRunning}
              onClick={() => {
                setPrompt(prompt + tokens.map((token) => token.text).join(""));
                setTokens([]);
              }}
            >
              Edit
            </button>
          )}
          {tokens.length > 0 && (
            <button type="button" class="plain" disabled={isRunning} onClick={() => setTokens([])}>
              Back to the prompt
            </button>
          )}
          <Segments name="preset" label="How tokens are drawn" options={[...PRESETS]} value={preset} onChange={setPreset} />
          {surprise !== null && <span class="muted">Perplexity {number(surprise)}</span>}
        </div>
      </div>
      <aside class="token-panel" aria-label="Token">
        {token ? (
          <>
            <p class="token-name">
              <code>{visible(token.text)}</code>
              <strong>{token.probability === null ? "first" : percent(token.probability)}</strong>
            </p>
            <ol>
              {token.alternatives.map((alternative) => (
                <li key={alternative.text}>
                  <button
                    type="button"
                    title="Take this token and go on from here"
                    disabled={isRunning || alternative.text === "" || alternative.text.includes("\ufffd")}
                    onClick={() => void run([...tokens.slice(0, selected), { ...token, ...alternative }], 40)}
                  >
                    <code>{visible(alternative.text)}</code>
                    <span>{percent(alternative.probability)}</span>
                    <i style={{ width: `${Math.max(alternative.probability * 100, 0.5)}%` }} />
                  </button>
                </li>
              ))}
            </ol>
            <p class="muted">The model’s own probabilities, before sampling. Choose a token to go on with it.</p>
          </>
        ) : (
          <p class="muted">The darker a token, the less likely it was. Point at one, or move with the arrow keys.</p>
        )}
      </aside>
    </div>
  );
}
