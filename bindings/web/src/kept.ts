// How downloads lie in the origin's private file system: for each a `.data` and a `.json` with notes.

/** The folder of the package. @internal */
export const FOLDER = "anser";

/** The notes that lie beside a download. @internal */
export interface Kept {
  url: string;
  nBytes: number;
  /** `ETag` or `Last-Modified`, by which a server tells whether the file is still the same; null if it gives neither. */
  validator: string | null;
  /** Bytes of each piece that are here. */
  done: number[];
}

/** The length of a piece of a download. @internal */
export const PIECE_LEN = 32 << 20;
