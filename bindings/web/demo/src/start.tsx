import { bytes } from "@page/format";
import { useStore } from "@page/store";
import { useState } from "preact/hooks";
import { engine, loadModel } from "./engine";

/** What is seen before there is a model. */
export function Start() {
  const current = useStore(engine, (value) => value);
  return (
    <main class="start">
      <h2>A language model in this browser</h2>
      <p class="lead">
        It runs here, on this device’s GPU or processor. Nothing that you write leaves this page, and after the first visit it works without a
        network.
      </p>
      {current.kind === "loading" ? <Loading /> : <Choice problem={current.kind === "none" ? current.problem : null} />}
    </main>
  );
}

function Choice({ problem }: { problem: string | null }) {
  const [address, setAddress] = useState("");
  const [isWrong, setWrong] = useState(false);
  const open = (event: Event) => {
    event.preventDefault();
    setWrong(!URL.canParse(address, document.baseURI));
    if (address !== "" && URL.canParse(address, document.baseURI)) void loadModel(address);
  };
  return (
    <div class="choices">
      {problem !== null && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      <button type="button" class="primary large" onClick={() => void loadModel("demo")}>
        Load the demo model · 43 MB
      </button>
      <p class="muted">A small model, trained on made-up stories, chats and e-mails. It shows how things work and knows little.</p>
      <details>
        <summary>Use a model of your own</summary>
        <div class="own">
          <p class="muted">RWKV-4 to RWKV-7 as GGUF, safetensors or .pth. Files stay on this device.</p>
          <label class="plain file">
            Open a file…
            <input
              type="file"
              accept=".gguf,.safetensors,.st,.pth"
              onChange={(event) => {
                const file = event.currentTarget.files?.[0];
                if (file) void loadModel(file);
              }}
            />
          </label>
          <form class="row" onSubmit={open}>
            <label class="field grow">
              <span>Address of a file</span>
              <input type="text" inputMode="url" autoComplete="off" spellcheck={false} value={address} aria-invalid={isWrong} onInput={(event) => setAddress(event.currentTarget.value)} />
            </label>
            <button type="submit" class="plain" disabled={address === ""}>
              Load
            </button>
          </form>
        </div>
      </details>
    </div>
  );
}

const PHASES = { download: "Downloading", upload: "Loading", compile: "Compiling" };

function Loading() {
  const current = useStore(engine, (value) => value);
  if (current.kind !== "loading") return null;
  const { progress, name, stop } = current;
  const share = progress && progress.total > 0 ? progress.loaded / progress.total : undefined;
  return (
    <div class="loading">
      <label for="progress">
        {progress ? PHASES[progress.phase] : "Opening"} {name}
      </label>
      <progress id="progress" max={1} {...(share !== undefined && { value: share })} />
      <p class="muted">
        {progress ? `${bytes(progress.loaded)} of ${bytes(progress.total)}` : " "}
      </p>
      <button type="button" class="plain" onClick={() => stop.abort()}>
        Stop
      </button>
      <p class="muted">What has arrived is kept: a later visit goes on from there.</p>
    </div>
  );
}
