import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { CloseIcon } from "../icons";
import { dialog } from "../shell";

const close = () => dialog.set(null);

/** A window over the page. The browser keeps the focus in it and gives it back afterwards; Esc closes it. */
export function Dialog({ title, children }: { title: string; children: ComponentChildren }) {
  const element = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const shown = element.current;
    shown?.showModal();
    return () => shown?.close();
  }, []);
  return (
    <dialog
      ref={element}
      class="dialog"
      aria-labelledby="dialog-title"
      onClose={close}
      onPointerDown={(event) => {
        // The dialog's own box is filled by its content: what is outside of that is the page behind it.
        if (event.target === element.current) close();
      }}
    >
      <div class="dialog-content">
        <header class="dialog-header">
          <h2 id="dialog-title">{title}</h2>
          <button type="button" class="quiet" aria-label="Close" onClick={close}>
            <CloseIcon />
          </button>
        </header>
        {children}
      </div>
    </dialog>
  );
}
