/** A fresh random identifier. Unlike `crypto.randomUUID` it works on pages that came over plain HTTP. */
export function identifier(): string {
  const random = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
