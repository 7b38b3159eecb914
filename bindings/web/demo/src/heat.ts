// Matrices as pictures.

/** Blue for negative numbers, the accent's orange for positive ones; zero is the ground. */
const NEGATIVE = [46, 112, 190] as const;
const POSITIVE = [214, 96, 30] as const;

/** Draws `n` by `n` numbers, the greatest of which is `most`, on a canvas. Small numbers are seen, too: the scale is a square root's. */
export function draw(canvas: HTMLCanvasElement, numbers: Float32Array, n: number, most: number): void {
  canvas.width = n;
  canvas.height = n;
  const context = canvas.getContext("2d");
  if (!context) return;
  const image = context.createImageData(n, n);
  for (const [i, x] of numbers.entries()) {
    const [r, g, b] = x < 0 ? NEGATIVE : POSITIVE;
    image.data.set([r, g, b, Math.round(255 * Math.sqrt(Math.min(Math.abs(x) / most, 1)))], 4 * i);
  }
  context.putImageData(image, 0, 0);
}

/** The largest magnitude. */
export function largest(numbers: Float32Array): number {
  return numbers.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
}

/** The length of the numbers as a vector. */
export function norm(numbers: Float32Array): number {
  return Math.sqrt(numbers.reduce((sum, x) => sum + x * x, 0));
}
