// Whether the server answers, and its models.

import { type Problem, problemOf, send } from "./api/client";
import { listModels } from "./api/models";
import { Store } from "./store";

export type Connection =
  | { kind: "connecting" }
  | { kind: "ready"; models: string[] }
  | { kind: "no key"; problem: Problem }
  | { kind: "failed"; problem: Problem };

/** How often an unreachable server is asked again, in milliseconds. */
const RETRY_PERIOD = 4000;

export const connection = new Store<Connection>({ kind: "connecting" });

/** Asks for the models. Until the server answers, `/health` is asked again and again. */
export async function connect(): Promise<void> {
  try {
    connection.set({ kind: "ready", models: await listModels() });
  } catch (thrown) {
    const problem = problemOf(thrown);
    const kind = problem.status === 401 ? "no key" : "failed";
    connection.set({ kind, problem });
    if (kind === "failed") setTimeout(retry, RETRY_PERIOD);
  }
}

async function retry(): Promise<void> {
  if (connection.value.kind !== "failed") return;
  try {
    await send("health");
  } catch {
    setTimeout(retry, RETRY_PERIOD);
    return;
  }
  await connect();
}

/** The models' names; empty until the server has told them. */
export function modelsOf(value: Connection): string[] {
  return value.kind === "ready" ? value.models : NONE;
}

const NONE: string[] = [];

/** The model that a request names. Before the server has told its models a request names none, and gets the only one. */
export function requestModel(name: string): string | null {
  return modelFor(name) || null;
}

/** The model that is used: the one of the settings if the server has it, or else its first one. */
export function modelFor(name: string): string {
  const models = modelsOf(connection.value);
  return models.includes(name) || models.length === 0 ? name : (models[0] ?? name);
}
