import type { ComponentChildren } from "preact";
import { MenuIcon } from "./icons";
import { isMenuOpen } from "./shell";

/** The top of a view: on narrow windows the menu's button, then the title and the view's own controls. */
export function ViewHeader({ title, children }: { title: ComponentChildren; children?: ComponentChildren }) {
  return (
    <header class="view-header">
      <button type="button" class="quiet menu-button" aria-label="Menu" onClick={() => isMenuOpen.set(true)}>
        <MenuIcon />
      </button>
      {title}
      <div class="view-controls">{children}</div>
    </header>
  );
}
