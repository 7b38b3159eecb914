import { change } from "../conversations/library";
import { type Conversation, chosen, type Message, siblings } from "../conversations/tree";
import { LeftIcon, RightIcon } from "../icons";

/** Switches between a message and its alternatives. */
export function SiblingSwitch({ conversation, message }: { conversation: Conversation; message: Message }) {
  const all = siblings(conversation, message);
  if (all.length < 2) return null;
  const index = all.indexOf(message.id);
  const step = (by: number) => () => {
    const id = all[index + by];
    if (id !== undefined) change(conversation.id, (changed) => chosen(changed, id));
  };
  return (
    <span class="siblings" role="group" aria-label="Alternatives">
      <button type="button" class="quiet" aria-label="Previous alternative" disabled={index === 0} onClick={step(-1)}>
        <LeftIcon />
      </button>
      <span>
        {index + 1}/{all.length}
      </span>
      <button type="button" class="quiet" aria-label="Next alternative" disabled={index === all.length - 1} onClick={step(1)}>
        <RightIcon />
      </button>
    </span>
  );
}
