// The model that the page runs, and how far loading it is.

import { Store } from "@page/store";
import { AnserError, cached, load, type DeviceChoice, type LoadProgress, type Model, type ModelSource } from "anser-web";

export type Engine =
  | { kind: "none"; problem: string | null }
  | { kind: "loading"; name: string; progress: LoadProgress | null; stop: AbortController }
  | { kind: "ready"; model: Model };

export const engine = new Store<Engine>({ kind: "none", problem: null });

/** Something to be said to screen readers. */
export const announcement = new Store("");

const DEMO_NAME = "the demo model";

function nameOf(source: ModelSource): string {
  if (source === "demo") return DEMO_NAME;
  if (source instanceof File) return source.name;
  return String(source);
}

/** The device that the page's address asks for: `?device=cpu`. */
function device(): DeviceChoice {
  return (new URLSearchParams(location.search).get("device") ?? "auto") as DeviceChoice;
}

/** Loads a model in the place of the one that is there. */
export async function loadModel(source: ModelSource): Promise<void> {
  const before = engine.value;
  if (before.kind === "loading") return;
  if (before.kind === "ready") await before.model.close();
  const stop = new AbortController();
  const name = nameOf(source);
  engine.set({ kind: "loading", name, progress: null, stop });
  const onProgress = (progress: LoadProgress) => engine.set({ kind: "loading", name, progress, stop });
  try {
    const model = await load(source, { device: device(), signal: stop.signal, onProgress });
    engine.set({ kind: "ready", model });
    announcement.set(`The model is ready. ${model.info.notices.join(" ")}`);
  } catch (error) {
    const isStopped = error instanceof AnserError && error.code === "cancelled";
    engine.set({ kind: "none", problem: isStopped ? null : messageOf(error) });
  }
}

/** Begins to load the demo model if it is here, since that takes no network. */
export async function loadKept(): Promise<void> {
  const demo = new URL("demo-q8_0.gguf", document.baseURI).href;
  const kept = await cached();
  if (kept.some(({ url, isComplete }) => url === demo && isComplete)) void loadModel("demo");
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
