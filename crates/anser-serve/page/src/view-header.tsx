import type { ComponentChildren } from "preact";
import { MenuIcon, SlidersIcon } from "./icons";
import { dialog, isMenuOpen } from "./shell";

/** The top of a view: on narrow windows the menu's button, then the title, the view's own controls, and the settings. */
export function ViewHeader({ title, children }: { title: ComponentChildren; children?: ComponentChildren }) {
  return (
    <header class="view-header">
      <button type="button" class="quiet menu-button" aria-label="Menu" onClick={() => isMenuOpen.set(true)}>
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
