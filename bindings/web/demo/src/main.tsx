import "@page/styles/base.css";
import "@page/styles/controls.css";
import "@page/styles/chat.css";
import "@page/styles/composer.css";
import "@page/styles/markdown.css";
import "@page/styles/completion.css";
import "./styles.css";
import { applyTheme } from "@page/settings/theme";
import { render } from "preact";
import { App } from "./app";
import { loadKept } from "./engine";

applyTheme();
const root = document.querySelector("#page");
// The page does not offer what it is about to do by itself.
void loadKept().finally(() => root && render(<App />, root));
if (import.meta.env.PROD && "serviceWorker" in navigator) {
  // Without it the page works as long as there is a network.
  navigator.serviceWorker.register("./sw.js").catch(() => {});
}
