import { Mark } from "@page/icons";
import { setTheme, theme, type Theme } from "@page/settings/theme";
import { Store, useStore } from "@page/store";
import type { Model } from "anser-web";
import { useEffect, useRef } from "preact/hooks";
import { ChatView } from "./chat";
import { CompletionView } from "./completion";
import { announcement, engine } from "./engine";
import { SearchView } from "./search";
import { Start } from "./start";
import { StateView } from "./state";

const VIEWS = [
  { id: "chat", label: "Chat", View: ChatView },
  { id: "completion", label: "Completion", View: CompletionView },
  { id: "state", label: "State", View: StateView },
  { id: "search", label: "Search", View: SearchView },
] as const;

type ViewId = (typeof VIEWS)[number]["id"];

function idOfAddress(): ViewId {
  return VIEWS.find(({ id }) => `#${id}` === location.hash)?.id ?? "chat";
}

const shown = new Store<ViewId>(idOfAddress());
addEventListener("hashchange", () => shown.set(idOfAddress()));

export function App() {
  const current = useStore(engine, (value) => value);
  const spoken = useStore(announcement, (text) => text);
  return (
    <div class="demo">
      <header class="top">
        <Mark />
        <h1>Anser</h1>
        {current.kind === "ready" && <Tabs />}
        <ThemeSwitch />
      </header>
      {current.kind === "ready" ? <Views model={current.model} /> : <Start />}
      <div class="hidden" role="status" aria-live="polite">
        {spoken}
      </div>
    </div>
  );
}

function Tabs() {
  const id = useStore(shown, (value) => value);
  const list = useRef<HTMLDivElement>(null);
  const choose = (to: ViewId) => {
    history.replaceState(null, "", `#${to}`);
    shown.set(to);
  };
  const move = (event: KeyboardEvent) => {
    const index = VIEWS.findIndex((view) => view.id === id);
    const last = VIEWS.length - 1;
    const to = { ArrowLeft: index === 0 ? last : index - 1, ArrowRight: index === last ? 0 : index + 1, Home: 0, End: last }[event.key];
    const view = to === undefined ? undefined : VIEWS[to];
    if (!view) return;
    event.preventDefault();
    choose(view.id);
    list.current?.querySelector<HTMLElement>(`#tab-${view.id}`)?.focus();
  };
  return (
    <div class="tabs" role="tablist" aria-label="What to do with the model" ref={list} onKeyDown={move}>
      {VIEWS.map((view) => (
        <button
          key={view.id}
          type="button"
          role="tab"
          id={`tab-${view.id}`}
          aria-controls={`view-${view.id}`}
          aria-selected={view.id === id}
          tabIndex={view.id === id ? 0 : -1}
          onClick={() => choose(view.id)}
        >
          {view.label}
        </button>
      ))}
    </div>
  );
}

/** All views stay, so that none forgets what it holds; one is seen. */
function Views({ model }: { model: Model }) {
  const shownId = useStore(shown, (value) => value);
  useEffect(() => {
    document.title = `${VIEWS.find(({ id }) => id === shownId)?.label ?? ""} · Anser in the browser`;
  }, [shownId]);
  return (
    <>
      <main>
        {VIEWS.map(({ id, View }) => (
          <section key={id} class="view" role="tabpanel" id={`view-${id}`} aria-labelledby={`tab-${id}`} hidden={id !== shownId}>
            <View model={model} isShown={id === shownId} />
          </section>
        ))}
      </main>
      <footer class="foot">
        <span>
          {model.info.name} · {model.info.onGpu ? `GPU: ${model.info.device}` : "on the processor"}
        </span>
        {model.info.notices.map((notice) => (
          <span key={notice}>{notice}</span>
        ))}
        <button type="button" class="link" onClick={() => void model.close().then(() => engine.set({ kind: "none", problem: null }))}>
          Another model
        </button>
      </footer>
    </>
  );
}

const NEXT: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };
const LABEL: Record<Theme, string> = { system: "as the system", light: "light", dark: "dark" };

function ThemeSwitch() {
  const current = useStore(theme, (value) => value);
  const next = NEXT[current];
  return (
    <button type="button" class="quiet theme" aria-label={`Colours: ${LABEL[current]}. Change to ${LABEL[next]}`} title={`Colours: ${LABEL[current]}`} onClick={() => setTheme(next)}>
      <svg class="icon" viewBox="0 0 20 20" width="18" height="18" aria-hidden="true" focusable="false">
        <circle cx="10" cy="10" r="6.5" />
        {current !== "light" && <path class="filled" d={current === "dark" ? "M10 3.5a6.5 6.5 0 0 0 0 13 6.5 6.5 0 0 0 0-13" : "M10 3.5a6.5 6.5 0 0 0 0 13z"} />}
      </svg>
    </button>
  );
}
