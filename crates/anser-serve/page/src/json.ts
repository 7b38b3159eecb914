// Reading JSON that may have any form.

export type JsonObject = Record<string, unknown>;

export function objectIn(value: unknown): JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as JsonObject) : {};
}

export function textIn(value: unknown, otherwise = ""): string {
  return typeof value === "string" ? value : otherwise;
}

export function numberIn(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

/** The one of `options` that the value is, or else the first. */
export function oneOf<T extends string>(value: unknown, options: readonly [T, ...T[]]): T {
  return options.find((option) => option === value) ?? options[0];
}
