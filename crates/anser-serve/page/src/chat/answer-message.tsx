import { useState } from "preact/hooks";
import { CopyButton } from "../copy-button";
import { answer, goOn, retry } from "../conversations/generation";
import { change } from "../conversations/library";
import { added, type Conversation, type Cost, type Message, newMessage } from "../conversations/tree";
import { count, number } from "../format";
import { AgainIcon, EditIcon, OnwardIcon } from "../icons";
import { Markdown } from "../markdown/markdown";
import { MessageEditor } from "./message-editor";
import { ProblemBox } from "./problem";
import { SiblingSwitch } from "./sibling-switch";
import { Thought } from "./thought";

interface Props {
  conversation: Conversation;
  message: Message;
  /** Whether an answer is being generated, so that nothing else can be. */
  isLocked: boolean;
  isLast: boolean;
}

export function AnswerMessage({ conversation, message, isLocked, isLast }: Props) {
  const [isEdited, setEdited] = useState(false);
  const { content, thought, end, problem } = message;
  const isWriting = end === null;
  const edit = (text: string) => {
    setEdited(false);
    const edited: Message = { ...newMessage("assistant", text), end: "stopped" };
    change(conversation.id, (changed) => added(changed, message.parent, edited));
  };
  return (
    <article class="message answer" aria-busy={isWriting}>
      <h2 class="hidden">Answer</h2>
      {thought !== "" && <Thought message={message} />}
      {isEdited ? (
        <MessageEditor text={content} action="Keep" onDone={edit} onCancel={() => setEdited(false)} />
      ) : (
        <Markdown text={content} />
      )}
      {isWriting && content === "" && thought === "" && <Waiting />}
      {end === "stop" && content === "" && <p class="muted">The model gave an empty answer.</p>}
      {problem && <ProblemBox problem={problem} onRetry={isLocked ? null : () => retry(conversation.id, message.id)} />}
      {!isWriting && (
        <div class="actions">
          <SiblingSwitch conversation={conversation} message={message} />
          {content !== "" && <CopyButton text={content} label="Copy answer" />}
          <button
            type="button"
            class="quiet"
            aria-label="Another answer"
            title="Another answer"
            disabled={isLocked}
            onClick={() => message.parent !== null && answer(conversation.id, message.parent)}
          >
            <AgainIcon />
          </button>
          {content !== "" && (
            <button type="button" class="quiet" aria-label="Edit answer" title="Edit answer" disabled={isLocked || isEdited} onClick={() => setEdited(true)}>
              <EditIcon />
            </button>
          )}
          {isLast && end !== "stop" && content !== "" && (
            <button type="button" class="quiet" aria-label="Continue the answer" title="Continue the answer" disabled={isLocked} onClick={() => goOn(conversation.id, message.id)}>
              <OnwardIcon />
            </button>
          )}
          <Figures message={message} />
        </div>
      )}
    </article>
  );
}

function Waiting() {
  return (
    <p class="waiting">
      <span class="hidden">The answer begins soon.</span>
      <i />
      <i />
      <i />
    </p>
  );
}

/** Why an answer ended early, and what it took. */
function Figures({ message: { end, cost } }: { message: Message }) {
  const parts = [];
  if (end === "length") parts.push("greatest length reached");
  if (end === "stopped") parts.push("stopped");
  if (cost) parts.push(...costParts(cost));
  return <span class="figures">{parts.join(" · ")}</span>;
}

function costParts({ nGenerated, nPrompt, nCached, tokensPerSecond }: Cost): string[] {
  const parts = [count(nGenerated, "token")];
  if (tokensPerSecond !== null) parts.push(`${number(tokensPerSecond)} tokens/s`);
  if (nCached > 0) parts.push(`${number(nCached)} of ${number(nPrompt)} cached`);
  return parts;
}
