import { fitHeight } from "@page/chat/fit-height";
import { useFollowing } from "@page/chat/use-following";
import { CopyButton } from "@page/copy-button";
import { count, number } from "@page/format";
import { AgainIcon, SendIcon, StopIcon } from "@page/icons";
import { Markdown } from "@page/markdown/markdown";
import type { Answer, Conversation, FinishReason, Model, Thinking } from "anser-web";
import { useEffect, useRef, useState } from "preact/hooks";
import { announcement, messageOf } from "./engine";

interface Turn {
  role: "user" | "assistant";
  content: string;
  reasoning: string;
  end: FinishReason | null;
  problem: string | null;
  figures: string;
}

const EXAMPLES = ["Hello! Who are you?", "Tell me a story about a fox.", "What is 17 + 26?"];
const MAX_TOKENS = 1000;

function turn(role: Turn["role"], content: string): Turn {
  return { role, content, reasoning: "", end: role === "user" ? "stop" : null, problem: null, figures: "" };
}

/** A conversation, whose state grows turn by turn. */
export function ChatView({ model, isShown }: { model: Model; isShown: boolean }) {
  const [turns, setTurns] = useState<Turn[]>([]);
  const [thinking, setThinking] = useState<Thinking>("off");
  const [text, setText] = useState("");
  const conversation = useRef<Conversation | null>(null);
  const running = useRef<AbortController | null>(null);
  const field = useRef<HTMLTextAreaElement>(null);
  const { ref, onScroll, follow } = useFollowing("chat");
  const isRunning = turns.at(-1)?.end === null;

  useEffect(() => {
    if (field.current) fitHeight(field.current);
  }, [text]);
  useEffect(() => {
    if (isShown && matchMedia("(pointer: fine)").matches) field.current?.focus();
  }, [isShown]);
  useEffect(() => () => running.current?.abort(), []);

  const change = (update: (last: Turn) => Turn) => setTurns((turns) => turns.map((turn, i) => (i === turns.length - 1 ? update(turn) : turn)));

  const run = async (ask: (chat: Conversation, signal: AbortSignal) => Answer) => {
    const controller = new AbortController();
    running.current = controller;
    follow();
    const start = performance.now();
    let first = 0;
    try {
      conversation.current ??= await model.chat({ thinking });
      const answer = ask(conversation.current, controller.signal);
      let content = "";
      for await (const piece of answer) {
        first ||= performance.now();
        content += piece.content;
        change((last) => ({ ...last, content: last.content + piece.content, reasoning: last.reasoning + piece.reasoning }));
      }
      const [n, seconds] = [answer.nTokens, (performance.now() - first) / 1000];
      const speed = n > 5 ? ` · ${number(n / seconds)} tokens/s` : "";
      const waited = first > 0 ? ` · first after ${Math.round(first - start)} ms` : "";
      const reason = answer.reason ?? "stop";
      const cut = reason === "length" ? "greatest length reached · " : reason === "cancelled" ? "stopped · " : "";
      change((last) => ({ ...last, end: reason, figures: `${cut}${count(n, "token")}${speed}${waited}` }));
      announcement.set(content);
    } catch (error) {
      change((last) => ({ ...last, end: "cancelled", problem: controller.signal.aborted ? null : messageOf(error) }));
    } finally {
      running.current = null;
    }
  };

  const send = (message: string) => {
    if (message.trim() === "" || isRunning) return;
    setText("");
    setTurns((turns) => [...turns, turn("user", message), turn("assistant", "")]);
    void run((chat, signal) => chat.say(message, { signal, maxTokens: MAX_TOKENS }));
  };
  const again = () => {
    setTurns((turns) => [...turns.slice(0, -1), turn("assistant", "")]);
    void run((chat, signal) => chat.regenerate({ signal, maxTokens: MAX_TOKENS }));
  };
  const begin = async (mode: Thinking) => {
    running.current?.abort();
    await conversation.current?.close();
    conversation.current = null;
    setThinking(mode);
    setTurns([]);
  };

  return (
    <>
      <div class="messages" ref={ref} onScroll={onScroll} role="log" aria-label="Conversation" aria-live="off" tabIndex={0}>
        <div class="column">
          {turns.length === 0 && (
            <div class="beginning">
              <h2 class="beginning-title">Ask something</h2>
              <div class="row examples">
                {EXAMPLES.map((example) => (
                  <button key={example} type="button" class="plain" onClick={() => send(example)}>
                    {example}
                  </button>
                ))}
              </div>
            </div>
          )}
          {turns.map((turn, index) =>
            turn.role === "user" ? (
              <article key={index} class="message user">
                <h2 class="hidden">You</h2>
                <div class="bubble">{turn.content}</div>
              </article>
            ) : (
              <AnswerTurn key={index} turn={turn} onAgain={index === turns.length - 1 && !isRunning ? again : null} />
            ),
          )}
        </div>
      </div>
      <div class="composer-place">
        <form
          class="composer"
          onSubmit={(event) => {
            event.preventDefault();
            send(text);
          }}
        >
          <textarea
            ref={field}
            rows={1}
            value={text}
            aria-label="Message"
            placeholder="Write a message"
            onInput={(event) => setText(event.currentTarget.value)}
            onKeyDown={(event) => {
              if (event.key === "Escape") running.current?.abort();
              if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
              event.preventDefault();
              send(text);
            }}
          />
          <div class="composer-controls">
            <label class="choice">
              <span>Think</span>
              <select value={thinking} onChange={(event) => void begin(event.currentTarget.value as Thinking)}>
                <option value="off">no</option>
                <option value="on">yes</option>
              </select>
            </label>
            {turns.length > 0 && (
              <button type="button" class="quiet small" onClick={() => void begin(thinking)}>
                New chat
              </button>
            )}
            {isRunning ? (
              <button type="button" class="send" aria-label="Stop" title="Stop (Esc)" onClick={() => running.current?.abort()}>
                <StopIcon />
              </button>
            ) : (
              <button type="submit" class="send" aria-label="Send" title="Send (Enter)" disabled={text.trim() === ""}>
                <SendIcon />
              </button>
            )}
          </div>
        </form>
      </div>
    </>
  );
}

function AnswerTurn({ turn, onAgain }: { turn: Turn; onAgain: (() => void) | null }) {
  const { content, reasoning, end, problem, figures } = turn;
  const isWriting = end === null;
  return (
    <article class="message answer" aria-busy={isWriting}>
      <h2 class="hidden">Answer</h2>
      {reasoning !== "" && (
        <details class="thought">
          <summary class={isWriting && content === "" ? "is-thinking" : undefined}>{isWriting && content === "" ? "Thinking…" : "Thought"}</summary>
          <div class="thought-text">{reasoning.trim()}</div>
        </details>
      )}
      <Markdown text={content} />
      {isWriting && content === "" && reasoning === "" && (
        <p class="waiting">
          <span class="hidden">The answer begins soon.</span>
          <i />
          <i />
          <i />
        </p>
      )}
      {!isWriting && content === "" && problem === null && <p class="muted">The model gave an empty answer.</p>}
      {problem !== null && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      {!isWriting && (
        <div class="actions">
          {content !== "" && <CopyButton text={content} label="Copy answer" />}
          {onAgain && (
            <button type="button" class="quiet" aria-label="Another answer" title="Another answer" onClick={onAgain}>
              <AgainIcon />
            </button>
          )}
          <span class="figures">{figures}</span>
        </div>
      )}
    </article>
  );
}
