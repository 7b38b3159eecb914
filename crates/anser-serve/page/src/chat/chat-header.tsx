import { useEffect, useRef, useState } from "preact/hooks";
import { type Conversation, shownPath, titleOf } from "../conversations/tree";
import { beginConversation, rename } from "../current";
import { BookmarkIcon, PlusIcon } from "../icons";
import { dialog } from "../shell";
import { ViewHeader } from "../view-header";

export function ChatHeader({ conversation }: { conversation: Conversation }) {
  const isFresh = conversation.roots.length === 0;
  const { state } = conversation.settings;
  const hasAnswer = shownPath(conversation).some((message) => message.role === "assistant");
  return (
    <ViewHeader name={titleOf(conversation)} title={<Title key={conversation.id} conversation={conversation} isFresh={isFresh} />}>
      {state !== "" && (
        <span class="chip" title="The conversation begins from this state">
          <BookmarkIcon />
          <span>{state}</span>
        </span>
      )}
      {hasAnswer && (
        <button type="button" class="quiet" aria-label="Save the state" title="Save the state" onClick={() => dialog.set("save state")}>
          <BookmarkIcon />
        </button>
      )}
      {!isFresh && (
        <button type="button" class="quiet narrow-only" aria-label="New conversation" title="New conversation" onClick={() => beginConversation()}>
          <PlusIcon />
        </button>
      )}
    </ViewHeader>
  );
}

/** The title, which becomes a field when it is pressed. */
function Title({ conversation, isFresh }: { conversation: Conversation; isFresh: boolean }) {
  const [isEdited, setEdited] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  const title = titleOf(conversation);
  useEffect(() => field.current?.select(), [isEdited]);
  if (isFresh) return <h1 class="title">{title}</h1>;
  if (!isEdited) {
    return (
      <h1 class="title">
        <button type="button" title="Rename" onClick={() => setEdited(true)}>
          {title}
        </button>
      </h1>
    );
  }
  const complete = () => {
    // A field that is being taken away loses the focus, too.
    if (!field.current) return;
    rename(conversation.id, field.current.value);
    setEdited(false);
  };
  return (
    <form
      class="title"
      onSubmit={(event) => {
        event.preventDefault();
        complete();
      }}
    >
      <input
        ref={field}
        aria-label="Title"
        defaultValue={title}
        maxLength={200}
        onBlur={complete}
        onKeyDown={(event) => {
          if (event.key !== "Escape") return;
          event.preventDefault();
          setEdited(false);
        }}
      />
    </form>
  );
}
