import type { Problem } from "../api/client";
import { connect, connection } from "../connection";
import { key } from "../settings/key";
import { dialog } from "../shell";
import { useStore } from "../store";

/** What the user can do about a problem, by its code; problems without advice of their own can be retried. */
const ADVICE: Record<string, string> = {
  unreachable: "Is it still running? The page asks again by itself.",
  unfinished: "What arrived is kept above.",
  state_not_found: "Named states last until the server ends. Choose another beginning in the settings.",
  rate_limit_exceeded: "Try again in a moment.",
};

export function ProblemBox({ problem, onRetry }: { problem: Problem; onRetry: (() => void) | null }) {
  const isKey = problem.status === 401;
  const advice = ADVICE[problem.code ?? ""];
  return (
    <div class="problem" role="alert">
      <p>
        {isKey ? keyAdvice() : sentence(problem.message)} {advice}
      </p>
      <div class="problem-controls">
        {(isKey || problem.code === "state_not_found") && (
          <button type="button" class="plain" onClick={() => dialog.set("settings")}>
            Settings
          </button>
        )}
        {onRetry && (
          <button type="button" class="plain" onClick={onRetry}>
            Retry
          </button>
        )}
      </div>
    </div>
  );
}

function keyAdvice(): string {
  return key.value === "" ? "The server needs a key." : "The server does not know this key.";
}

/** The message of an error as a sentence. */
function sentence(message: string): string {
  const text = message.charAt(0).toUpperCase() + message.slice(1);
  return /[.!?:]$/.test(text) ? text : `${text}.`;
}

/** Tells that the server does not answer or wants a key. */
export function ConnectionProblem() {
  const problem = useStore(connection, (value) => ("problem" in value ? value.problem : null));
  return problem && <ProblemBox problem={problem} onRetry={() => void connect()} />;
}
