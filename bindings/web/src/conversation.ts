import type { Connection } from "./connection.js";
import { Generation, type GenerateOptions } from "./generation.js";
import type { WireReply } from "./protocol.js";
import type { Session } from "./session.js";
import type { ChatTemplate, FinishReason, Message, Thinking } from "./types.js";

/** The options of a conversation. */
export interface ChatOptions {
  /** Instructions for the whole conversation. */
  system?: string;
  /** Turns so far. */
  messages?: Message[];
  /** How turns are written; by default as the model was trained. */
  template?: ChatTemplate;
  thinking?: Thinking;
}

/** A piece of an answer. */
export interface AnswerPiece {
  /** More of the thought. */
  reasoning: string;
  /** More of the content. */
  content: string;
}

/** An answer that is being generated: iterate for its pieces. If it is left early, what was written until then is kept. */
export class Answer implements AsyncIterable<AnswerPiece> {
  readonly #pieces: AsyncGenerator<AnswerPiece, void, undefined>;
  #reason: FinishReason | null = null;
  #nTokens = 0;

  /** @internal */
  constructor(begin: () => Promise<Generation>, end: (content: string, failed: boolean) => void) {
    this.#pieces = this.#run(begin, end);
  }

  /** Why the answer ended; null while it goes on. */
  get reason(): FinishReason | null {
    return this.#reason;
  }

  /** Tokens drawn so far. */
  get nTokens(): number {
    return this.#nTokens;
  }

  [Symbol.asyncIterator](): AsyncGenerator<AnswerPiece, void, undefined> {
    return this.#pieces;
  }

  /** Runs to the end; the content. */
  async text(): Promise<string> {
    let text = "";
    for await (const { content } of this) text += content;
    return text;
  }

  async *#run(
    begin: () => Promise<Generation>,
    end: (content: string, failed: boolean) => void,
  ): AsyncGenerator<AnswerPiece, void, undefined> {
    const generation = await begin();
    let whole = "";
    let failed = true;
    try {
      for await (const { text: content, reasoning = "", tokens } of generation.steps()) {
        this.#nTokens += tokens.length;
        whole += content;
        if (content !== "" || reasoning !== "") yield { content, reasoning };
      }
      failed = false;
    } finally {
      await generation.steps().return();
      if (!failed || whole !== "") this.#reason = (await generation.finished.catch(() => null))?.reason ?? "cancelled";
      end(whole, failed);
    }
  }
}

/**
 * A conversation. The state after the turns so far is kept, so that a new turn reads only what is new: the last answer, without its
 * thought, and the user's text.
 */
export class Conversation {
  readonly #connection: Connection;
  readonly #reply: WireReply;
  /** Has read `#read`, which ends before the opening of an answer. */
  #base: Session;
  #read = "";
  /** Gives the last answer. */
  #work: Session | null = null;
  readonly #messages: Message[];

  /** @internal */
  constructor(connection: Connection, session: Session, options: ChatOptions) {
    this.#connection = connection;
    this.#base = session;
    this.#reply = {};
    if (options.template) this.#reply.template = options.template;
    if (options.thinking) this.#reply.thinking = options.thinking;
    this.#messages = [...(options.messages ?? [])];
    if (options.system) this.#messages.unshift({ role: "system", content: options.system });
  }

  /** The turns so far; answers without their thoughts. */
  get messages(): readonly Message[] {
    return this.#messages;
  }

  /** The session that has read the turns and the last answer: for its state. */
  get session(): Session {
    return this.#work ?? this.#base;
  }

  /** Reads `text` as a turn of the user and generates the answer. */
  say(text: string, options: GenerateOptions = {}): Answer {
    return this.#answer(options, () => this.#messages.push({ role: "user", content: text }));
  }

  /** Removes the last answer and generates another one. */
  regenerate(options: GenerateOptions = {}): Answer {
    return this.#answer(options, () => {
      if (this.#messages.at(-1)?.role === "assistant") this.#messages.pop();
    });
  }

  /** Forgets all turns but instructions. */
  async reset(): Promise<void> {
    const isKept = this.#messages[0]?.role === "system";
    this.#messages.splice(isKept ? 1 : 0);
    this.#read = "";
    await this.#base.reset();
    await this.#drop();
  }

  /** Frees the conversation's states. */
  async close(): Promise<void> {
    await this.#drop();
    await this.#base.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #answer(options: GenerateOptions, change: () => void): Answer {
    let before: Message[] = [];
    const restore = () => this.#messages.splice(0, this.#messages.length, ...before);
    const begin = async () => {
      before = [...this.#messages];
      change();
      try {
        const { opening } = await this.#readTurns(options.signal);
        await this.#drop();
        this.#work = await this.#base.fork();
        return this.#work.answer(this.#encode(opening), options, this.#reply);
      } catch (error) {
        // A turn that could not be read is none.
        restore();
        throw error;
      }
    };
    return new Answer(begin, (content, failed) => {
      const replaces = this.#messages.length < before.length;
      // Where nothing was written, a turn whose answer failed is none, and the answer that was to be replaced stays.
      if (content === "" && (failed || replaces)) restore();
      else this.#messages.push({ role: "assistant", content });
    });
  }

  /** Lets `#base` read all turns. */
  async #readTurns(signal: AbortSignal | undefined): Promise<{ opening: string }> {
    const { turns, opening } = await this.#connection.call("render", { messages: this.#messages, reply: this.#reply });
    if (!turns.startsWith(this.#read)) {
      await this.#base.reset();
      this.#read = "";
    }
    const tokens = await this.#encode(turns.slice(this.#read.length));
    if (tokens.length > 0) {
      // Until it is read whole, nothing of it counts.
      const before = this.#read;
      this.#read = "\0";
      const kept = before === "" ? null : await this.#base.fork();
      try {
        await this.#base.feed(tokens, { logits: "none", ...(signal && { signal }) });
        this.#read = turns;
        await kept?.close();
      } catch (error) {
        if (kept) {
          await this.#base.close();
          this.#base = kept;
          this.#read = before;
        }
        throw error;
      }
    }
    return { opening };
  }

  #encode(prompt: string): Promise<Uint32Array> {
    return this.#connection.call("encodePrompt", { prompt, reply: this.#reply });
  }

  async #drop(): Promise<void> {
    const work = this.#work;
    this.#work = null;
    await work?.close();
  }
}
