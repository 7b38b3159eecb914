import { connection, modelFor, modelsOf } from "../connection";
import { ask, running } from "../conversations/generation";
import { type Conversation, shownPath } from "../conversations/tree";
import { keepCurrent, useCurrent } from "../current";
import { DownIcon } from "../icons";
import { useStore } from "../store";
import { AnswerMessage } from "./answer-message";
import { ChatHeader } from "./chat-header";
import { Composer } from "./composer";
import { ConnectionProblem } from "./problem";
import { useFollowing } from "./use-following";
import { UserMessage } from "./user-message";

export function ChatView() {
  const conversation = useCurrent();
  const isRunning = useStore(running, (all) => all.has(conversation.id));
  const path = shownPath(conversation);
  const following = useFollowing(conversation.id);
  const send = (text: string) => {
    const kept = keepCurrent();
    following.follow();
    ask(kept.id, shownPath(kept).at(-1)?.id ?? null, text);
  };
  return (
    <>
      <ChatHeader conversation={conversation} />
      <div class="messages" ref={following.ref} onScroll={following.onScroll}>
        <div class="column">
          {path.length === 0 && <Beginning conversation={conversation} />}
          {path.map((message, index) =>
            message.role === "user" ? (
              <UserMessage key={message.id} conversation={conversation} message={message} isLocked={isRunning} />
            ) : (
              <AnswerMessage
                key={message.id}
                conversation={conversation}
                message={message}
                isLocked={isRunning}
                isLast={index === path.length - 1}
              />
            ),
          )}
          {!path.at(-1)?.problem && <ConnectionProblem />}
        </div>
      </div>
      <div class="composer-place">
        {!following.isAtEnd && (
          <button type="button" class="to-end" aria-label="Scroll to the end" onClick={following.follow}>
            <DownIcon />
          </button>
        )}
        <Composer key={conversation.id} conversation={conversation} isRunning={isRunning} onSend={send} />
      </div>
    </>
  );
}

/** What a conversation without messages shows. */
function Beginning({ conversation }: { conversation: Conversation }) {
  const hasModels = useStore(connection, (value) => modelsOf(value).length > 0);
  const { model, state } = conversation.settings;
  return (
    <div class="beginning">
      <p class="beginning-title">What would you like to know?</p>
      {hasModels && (
        <p class="muted">
          {modelFor(model)}
          {state !== "" && `, from the state “${state}”`}
        </p>
      )}
      <p class="muted">Conversations stay in this browser.</p>
    </div>
  );
}
