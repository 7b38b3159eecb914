import { AnserError } from "./errors.js";
import type { StatePart } from "./types.js";

/** What a model remembers of the tokens it has read: plain numbers, which a session can continue from. */
export class State {
  /** All numbers, part after part, each `[nLayer, ...shape]`. Changes are seen by {@link Session.restore}. */
  readonly data: Float32Array;
  readonly nLayer: number;
  readonly parts: readonly StatePart[];

  constructor(data: Float32Array, nLayer: number, parts: readonly StatePart[]) {
    const expected = parts.at(-1)?.end ?? 0;
    if (data.length !== expected) {
      throw new AnserError("state", `a state of this model has ${expected} numbers, found ${data.length}`);
    }
    this.data = data;
    this.nLayer = nLayer;
    this.parts = parts;
  }

  /** The numbers of part `name` in one layer: a view, no copy. */
  part(name: string, layer: number): Float32Array {
    const part = this.parts.find((part) => part.name === name);
    if (!part) {
      const names = this.parts.map((part) => part.name).join(", ");
      throw new AnserError("option", `the state has no part ${JSON.stringify(name)}; it has ${names}`);
    }
    if (!Number.isInteger(layer) || layer < 0 || layer >= this.nLayer) {
      throw new AnserError("option", `layer: expected 0 to ${this.nLayer - 1}, found ${layer}`);
    }
    const length = (part.end - part.start) / this.nLayer;
    return this.data.subarray(part.start + layer * length, part.start + (layer + 1) * length);
  }

  /** The matrices `[H, N, N]` (head, value row, key column) of a layer, or one head's `[N, N]`. A view. */
  wkv(layer: number, head?: number): Float32Array {
    const all = this.part("wkv", layer);
    if (head === undefined) return all;
    const nHead = this.parts.find((part) => part.name === "wkv")?.shape[0] ?? 1;
    if (!Number.isInteger(head) || head < 0 || head >= nHead) {
      throw new AnserError("option", `head: expected 0 to ${nHead - 1}, found ${head}`);
    }
    const length = all.length / nHead;
    return all.subarray(head * length, (head + 1) * length);
  }

  /** The last token's input of the time mix of a layer, `[C]`. A view. */
  attShift(layer: number): Float32Array {
    return this.part("att_shift", layer);
  }

  /** The last token's input of the channel mix of a layer, `[C]`. A view. */
  ffnShift(layer: number): Float32Array {
    return this.part("ffn_shift", layer);
  }
}
