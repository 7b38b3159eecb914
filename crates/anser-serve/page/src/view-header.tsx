import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import { MenuIcon, SlidersIcon } from "./icons";
import { dialog, openMenu } from "./shell";

interface Props {
  /** What the view is called in the browser's list of pages. */
  name: string;
  title: ComponentChildren;
  children?: ComponentChildren;
}

/** The top of a view: on narrow windows the menu's button, then the title, the view's own controls, and the settings. */
export function ViewHeader({ name, title, children }: Props) {
  useEffect(() => {
    document.title = `${name} · Anser`;
  }, [name]);
  return (
    <header class="view-header">
      <button type="button" class="quiet menu-button" aria-label="Menu" onClick={() => openMenu(".views a")}>
        <MenuIcon />
      </button>
      {title}
      <div class="view-controls">
        {children}
        <button type="button" class="quiet" aria-label="Settings" title="Settings" onClick={() => dialog.set("settings")}>
          <SlidersIcon />
        </button>
      </div>
    </header>
  );
}
