import { useEffect, useState } from "preact/hooks";
import { isAbort, type Problem, problemOf } from "../api/client";
import { deleteState, downloadState, listStates, type NamedState } from "../api/states";
import { ProblemBox } from "../chat/problem";
import { beginConversation } from "../current";
import { download } from "../download";
import { bytes, count, date } from "../format";
import { DownloadIcon, TrashIcon } from "../icons";
import { ViewHeader } from "../view-header";
import { NewState } from "./new-state";

/** The named states of the server. */
export function StatesView() {
  const [states, setStates] = useState<NamedState[] | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  /** Does something with the server, and shows the states as they are afterwards. */
  const act = async (work?: () => Promise<void>) => {
    setProblem(null);
    try {
      await work?.();
      setStates(await listStates());
    } catch (thrown) {
      if (!isAbort(thrown)) setProblem(problemOf(thrown));
    }
  };
  useEffect(() => void act(), []);
  return (
    <>
      <ViewHeader name="States" title={<h1 class="title">States</h1>} />
      <div class="states">
        <div class="column">
          <p class="lead">
            A state is all that a model remembers of a text, in a fixed size. Read a long text once, and begin from it as often as you
            like. States last until the server ends; a downloaded one can be uploaded again.
          </p>
          {problem && <ProblemBox problem={problem} onRetry={() => void act()} />}
          {states?.length === 0 && <p class="muted">There are no states yet.</p>}
          <ul class="state-list">
            {states?.map((state) => (
              <StateEntry key={state.id} state={state} act={act} />
            ))}
          </ul>
          <NewState act={act} />
        </div>
      </div>
    </>
  );
}

function StateEntry({ state, act }: { state: NamedState; act: (work: () => Promise<void>) => Promise<void> }) {
  const [asks, setAsks] = useState(false);
  const { id, model, created, n_tokens, n_bytes } = state;
  const read = n_tokens === null ? "from a file" : `${count(n_tokens, "token")} read`;
  return (
    <li class="state">
      <div class="state-text">
        <h2>{id}</h2>
        <p class="muted">
          {read} · {bytes(n_bytes)} · {model} · {date(created * 1000)}
        </p>
      </div>
      {asks ? (
        <div class="row">
          <span>Delete it from the server?</span>
          <button type="button" class="plain" onClick={() => setAsks(false)}>
            Keep
          </button>
          <button type="button" class="danger" onClick={() => void act(() => deleteState(id))}>
            Delete
          </button>
        </div>
      ) : (
        <div class="row">
          <button type="button" class="plain" onClick={() => beginConversation({ state: id, model })}>
            Begin a conversation
          </button>
          <button
            type="button"
            class="quiet"
            aria-label={`Download ${id}`}
            title="Download"
            onClick={() => void act(async () => download(`${id}.safetensors`, await downloadState(id)))}
          >
            <DownloadIcon />
          </button>
          <button type="button" class="quiet" aria-label={`Delete ${id}`} title="Delete" onClick={() => setAsks(true)}>
            <TrashIcon />
          </button>
        </div>
      )}
    </li>
  );
}
