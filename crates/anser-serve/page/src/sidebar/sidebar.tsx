import { useRef, useState } from "preact/hooks";
import { byTime, library } from "../conversations/library";
import { matches, titleOf } from "../conversations/tree";
import { beginConversation, discard, useCurrentId } from "../current";
import { Mark, PlusIcon, SearchIcon, TrashIcon } from "../icons";
import { address, lastChat, show, type View, view } from "../router";
import { closeMenu } from "../shell";
import { useStore } from "../store";

export function Sidebar() {
  return (
    <aside class="sidebar" aria-label="Menu">
      <div class="brand">
        <Mark />
        <span>Anser</span>
      </div>
      <Views />
      <button
        type="button"
        class="new"
        onClick={() => {
          beginConversation();
          closeMenu();
        }}
      >
        <PlusIcon />
        New conversation
      </button>
      <Conversations />
    </aside>
  );
}

/** The three views of the page. */
function Views() {
  const kind = useStore(view, (shown) => shown.kind);
  const chat = useStore(lastChat, (shown) => shown);
  const link = (to: View, label: string) => (
    <a href={address(to)} aria-current={kind === to.kind ? "page" : undefined} onClick={closeMenu}>
      {label}
    </a>
  );
  return (
    <nav class="views" aria-label="Views">
      {link(chat, "Chat")}
      {link({ kind: "completion" }, "Completion")}
      {link({ kind: "states" }, "States")}
    </nav>
  );
}

function Conversations() {
  const [query, setQuery] = useState("");
  const list = useRef<HTMLUListElement>(null);
  // The list is made again when one of its lines changes, and not for each piece of an answer.
  useStore(library, (conversations) => byTime(conversations ?? new Map()).map((one) => `${one.id} ${titleOf(one)}`).join("\n"));
  const found = byTime(library.value ?? new Map()).filter((conversation) => matches(conversation, query));
  const openFirst = () => {
    const [first] = found;
    if (!first) return;
    show({ kind: "chat", id: first.id });
    closeMenu();
  };
  return (
    <>
      <form
        class="search"
        role="search"
        onSubmit={(event) => {
          event.preventDefault();
          openFirst();
        }}
      >
        <SearchIcon />
        <input
          id="search"
          type="search"
          value={query}
          aria-label="Search conversations"
          placeholder="Search"
          autoComplete="off"
          onInput={(event) => setQuery(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key !== "ArrowDown") return;
            event.preventDefault();
            list.current?.querySelector("a")?.focus();
          }}
        />
        <kbd aria-hidden="true">Ctrl K</kbd>
      </form>
      <nav class="conversations" aria-label="Conversations">
        <ul ref={list}>
          {found.map((conversation) => (
            <Entry key={conversation.id} id={conversation.id} title={titleOf(conversation)} />
          ))}
        </ul>
        {found.length === 0 && query !== "" && <p class="muted">No conversation has these words.</p>}
      </nav>
    </>
  );
}

function Entry({ id, title }: { id: string; title: string }) {
  const isCurrent = useCurrentId() === id;
  return (
    <li>
      <a href={address({ kind: "chat", id })} aria-current={isCurrent ? "page" : undefined} title={title} onClick={closeMenu}>
        {title}
      </a>
      <button type="button" class="quiet" aria-label={`Delete “${title}”`} title="Delete" onClick={() => discard(id)}>
        <TrashIcon />
      </button>
    </li>
  );
}
