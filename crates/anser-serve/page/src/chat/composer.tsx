import { useEffect, useRef, useState } from "preact/hooks";
import { connection, modelFor, modelsOf } from "../connection";
import { stop } from "../conversations/generation";
import type { Conversation } from "../conversations/tree";
import { changeCurrentSettings } from "../current";
import { SendIcon, StopIcon } from "../icons";
import { THINKING_OPTIONS, type Thinking } from "../settings/conversation";
import { useStore } from "../store";
import { fitHeight } from "./fit-height";

interface Props {
  conversation: Conversation;
  isRunning: boolean;
  onSend: (text: string) => void;
}

/** The field for the next message. */
export function Composer({ conversation, isRunning, onSend }: Props) {
  const [text, setText] = useState("");
  const field = useRef<HTMLTextAreaElement>(null);
  const models = useStore(connection, modelsOf);
  const { thinking, model } = conversation.settings;
  useEffect(() => {
    if (field.current) fitHeight(field.current);
  }, [text]);
  // On a touch screen the focus would open the keyboard.
  useEffect(() => {
    if (matchMedia("(pointer: fine)").matches) field.current?.focus();
  }, []);
  const canSend = text.trim() !== "" && !isRunning;
  const send = () => {
    if (!canSend) return;
    setText("");
    onSend(text);
  };
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
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
          if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
          event.preventDefault();
          send();
        }}
      />
      <div class="composer-controls">
        <label class="choice">
          <span>Think</span>
          <select value={thinking} onChange={(event) => changeCurrentSettings({ thinking: event.currentTarget.value as Thinking })}>
            {THINKING_OPTIONS.map(({ value, label }) => (
              <option key={value} value={value}>
                {label}
              </option>
            ))}
          </select>
        </label>
        {models.length > 1 && (
          <label class="choice">
            <span>Model</span>
            <select aria-label="Model" value={modelFor(model)} onChange={(event) => changeCurrentSettings({ model: event.currentTarget.value })}>
              {models.map((name) => (
                <option key={name} value={name}>
                  {name}
                </option>
              ))}
            </select>
          </label>
        )}
        {isRunning ? (
          <button type="button" class="send" aria-label="Stop" title="Stop (Esc)" onClick={() => stop(conversation.id)}>
            <StopIcon />
          </button>
        ) : (
          <button type="submit" class="send" aria-label="Send" title="Send (Enter)" disabled={!canSend}>
            <SendIcon />
          </button>
        )}
      </div>
    </form>
  );
}
