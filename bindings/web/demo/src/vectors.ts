// Nearness of texts.

/** Passages of a text: paragraphs, or sentences of long ones. */
export function passagesOf(text: string): string[] {
  const segmenter = new Intl.Segmenter(undefined, { granularity: "sentence" });
  return text
    .split(/\n+/)
    .flatMap((line) => Array.from(segmenter.segment(line), ({ segment }) => segment.trim()))
    .filter((passage) => /\p{L}/u.test(passage));
}

export function meanOf(rows: readonly Float32Array[]): Float32Array {
  const mean = new Float32Array(rows[0]?.length ?? 0);
  for (const row of rows) for (const [i, x] of row.entries()) mean[i] = (mean[i] ?? 0) + x / rows.length;
  return mean;
}

/** The cosine of the angle between two rows, seen from `centre`: what all texts have in common says nothing about one. */
export function likeness(a: Float32Array, b: Float32Array, centre: Float32Array): number {
  let [ab, aa, bb] = [0, 0, 0];
  for (const [i, c] of centre.entries()) {
    const [x, y] = [(a[i] ?? 0) - c, (b[i] ?? 0) - c];
    ab += x * y;
    aa += x * x;
    bb += y * y;
  }
  return aa === 0 || bb === 0 ? 0 : ab / Math.sqrt(aa * bb);
}
