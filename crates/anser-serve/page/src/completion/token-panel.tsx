import { percent } from "../format";
import { take } from "./draft";
import { type ScoredToken, visible } from "./tokens";

interface Props {
  token: ScoredToken | undefined;
  index: number;
  isLocked: boolean;
}

/** The probability of one token, and of those that could stand in its place. */
export function TokenPanel({ token, index, isLocked }: Props) {
  return (
    <aside class="token-panel" aria-label="Token">
      {token ? (
        <>
          <p class="token-name">
            <code>{visible(token.text)}</code>
            <strong>{token.probability === null ? "first" : percent(token.probability)}</strong>
          </p>
          {token.alternatives.length > 0 && (
            <ol>
              {token.alternatives.map(({ text, probability }) => (
                <li key={text}>
                  <button
                    type="button"
                    title="Take this token and go on from here"
                    disabled={isLocked || text === "" || text.includes("\ufffd")}
                    onClick={() => take(index, { ...token, text, probability })}
                  >
                    <code>{visible(text)}</code>
                    <span>{percent(probability)}</span>
                    <i style={{ width: `${Math.max(probability * 100, 0.5)}%` }} />
                  </button>
                </li>
              ))}
            </ol>
          )}
          <p class="muted">The model’s own probabilities, before sampling. Choose a token to go on with it.</p>
        </>
      ) : (
        <p class="muted">Point at a token to see its probability.</p>
      )}
    </aside>
  );
}
