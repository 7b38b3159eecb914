// `GET /v1/models`

import { sendForJson } from "./client";

/** The names by which requests may ask for a model, the usual one first. */
export async function listModels(): Promise<string[]> {
  const { data } = await sendForJson<{ data: { id: string }[] }>("v1/models");
  return data.map((model) => model.id);
}
