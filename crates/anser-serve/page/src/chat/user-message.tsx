import { useState } from "preact/hooks";
import { CopyButton } from "../copy-button";
import { ask } from "../conversations/generation";
import type { Conversation, Message } from "../conversations/tree";
import { EditIcon } from "../icons";
import { MessageEditor } from "./message-editor";
import { SiblingSwitch } from "./sibling-switch";

interface Props {
  conversation: Conversation;
  message: Message;
  /** Whether an answer is being generated, so that nothing can be asked. */
  isLocked: boolean;
}

export function UserMessage({ conversation, message, isLocked }: Props) {
  const [isEdited, setEdited] = useState(false);
  const change = (text: string) => {
    setEdited(false);
    ask(conversation.id, message.parent, text);
  };
  return (
    <article class="message user">
      <h2 class="hidden">You</h2>
      {isEdited ? (
        <MessageEditor text={message.content} action="Ask" onDone={change} onCancel={() => setEdited(false)} />
      ) : (
        <div class="bubble">{message.content}</div>
      )}
      <div class="actions">
        <SiblingSwitch conversation={conversation} message={message} />
        <CopyButton text={message.content} label="Copy message" />
        <button type="button" class="quiet" aria-label="Edit message" title="Edit message" disabled={isLocked || isEdited} onClick={() => setEdited(true)}>
          <EditIcon />
        </button>
      </div>
    </article>
  );
}
