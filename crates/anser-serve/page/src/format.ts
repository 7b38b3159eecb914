// Numbers and times as people read them.

/** A number with at most three digits that matter: 1.2, 34, 1,240. */
export function number(value: number): string {
  const digits = value >= 10 || Number.isInteger(value) ? 0 : 1;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

/** A number of things, with the plural's s. */
export function count(n: number, noun: string): string {
  return `${number(n)} ${noun}${n === 1 ? "" : "s"}`;
}

/** A length of time. */
export function duration(ms: number): string {
  const seconds = ms / 1000;
  if (seconds < 1) return "less than a second";
  if (seconds < 60) return count(Math.round(seconds), "second");
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

/** A number of bytes. */
export function bytes(n: number): string {
  const units = ["B", "KB", "MB", "GB"];
  let power = 0;
  while (n >= 1000 && power < units.length - 1) {
    n /= 1000;
    power += 1;
  }
  return `${number(n)} ${units[power]}`;
}

/** A day and a time of day. */
export function date(msSince1970: number): string {
  return new Date(msSince1970).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/** A probability as a percentage. */
export function percent(probability: number): string {
  const value = probability * 100;
  if (value > 0 && value < 0.1) return "< 0.1 %";
  return `${value.toLocaleString("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 })} %`;
}
