import { useEffect, useRef } from "preact/hooks";
import { fitHeight } from "./fit-height";

interface Props {
  text: string;
  /** What the button that completes the change says. */
  action: string;
  onDone: (text: string) => void;
  onCancel: () => void;
}

/** A message while its text is changed. */
export function MessageEditor({ text, action, onDone, onCancel }: Props) {
  const field = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    const element = field.current;
    if (!element) return;
    fitHeight(element);
    element.focus();
    element.setSelectionRange(text.length, text.length);
  }, []);
  const complete = () => {
    const changed = field.current?.value ?? "";
    if (changed.trim() !== "") onDone(changed);
  };
  return (
    <form
      class="editor"
      onSubmit={(event) => {
        event.preventDefault();
        complete();
      }}
    >
      <textarea
        ref={field}
        aria-label="Text of the message"
        defaultValue={text}
        onInput={(event) => fitHeight(event.currentTarget)}
        onKeyDown={(event) => {
          if (event.key === "Escape") {
            event.preventDefault();
            onCancel();
          } else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
            event.preventDefault();
            complete();
          }
        }}
      />
      <div class="editor-controls">
        <button type="button" class="plain" onClick={onCancel}>
          Cancel
        </button>
        <button type="submit" class="primary">
          {action}
        </button>
      </div>
    </form>
  );
}
