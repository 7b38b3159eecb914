/** What an {@link AnserError} is about, for programs. */
export type ErrorCode =
  /** The caller's signal was aborted; such an error's `name` is `AbortError`. */
  | "cancelled"
  /** An option or argument that is not allowed, or a call at the wrong time. */
  | "option"
  /** A file that is no model which Anser can run. */
  | "model"
  /** A state that is not one of this model, or a damaged state file. */
  | "state"
  /** A model without tokenizer, or ids that it cannot decode. */
  | "tokenizer"
  /** The model computed a number that is not finite. */
  | "numbers"
  /** The device has no room for what was asked. */
  | "memory"
  /** The GPU cannot be used, or failed. */
  | "device"
  /** The GPU is gone: load the model again. */
  | "lost"
  /** The server cannot be reached, or sends something else than it promised. What has arrived is kept. */
  | "network"
  /** The browser gives this site too little storage for the file. */
  | "quota"
  /** The worker or the module cannot be started, or has crashed. */
  | "engine";

/** Every error of the package. Its message names the file or option concerned, what was expected and what was found. */
export class AnserError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.name = code === "cancelled" ? "AbortError" : "AnserError";
  }
}

/** The error of a call that the caller's signal has ended. @internal */
export function cancelled(what: string): AnserError {
  return new AnserError("cancelled", `${what}: cancelled`);
}

/** What was thrown, as an error of the package. @internal */
export function asAnserError(thrown: unknown, code: ErrorCode = "engine"): AnserError {
  if (thrown instanceof AnserError) return thrown;
  if (thrown instanceof Error) {
    const own = (thrown as Error & { code?: unknown }).code;
    return new AnserError(typeof own === "string" ? (own as ErrorCode) : code, thrown.message, { cause: thrown });
  }
  return new AnserError(code, String(thrown));
}
