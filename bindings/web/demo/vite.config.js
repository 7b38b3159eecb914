import { createHash } from "node:crypto";
import { copyFileSync, createReadStream, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const MODEL = "demo-q8_0.gguf";
const modelPath = at(`../../../models/${MODEL}`);

/** The demo model beside the page: served in development, copied when it is built. */
function demoModel() {
  return {
    name: "demo-model",
    configureServer(server) {
      server.middlewares.use(`/${MODEL}`, (_, response) => {
        response.setHeader("content-length", statSync(modelPath).size);
        createReadStream(modelPath).pipe(response);
      });
    },
    writeBundle({ dir }) {
      copyFileSync(modelPath, join(dir ?? "", MODEL));
    },
  };
}

/** The service worker, with the list of the page's files and a digest of their bytes. */
function offline() {
  return {
    name: "offline",
    apply: "build",
    closeBundle() {
      const folder = at("dist");
      const files = readdirSync(folder, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
        .filter((name) => name !== MODEL && name !== "sw.js")
        .sort();
      const digest = createHash("sha256");
      for (const name of files) digest.update(name).update(readFileSync(join(folder, name)));
      const worker = readFileSync(at("sw.js"), "utf8")
        .replace("__VERSION__", JSON.stringify(digest.digest("hex").slice(0, 16)))
        .replace("__FILES__", JSON.stringify(["./", ...files.filter((name) => name !== "index.html")]));
      writeFileSync(join(folder, "sw.js"), worker);
    },
  };
}

export default defineConfig({
  base: "./",
  resolve: {
    alias: {
      "anser-web": at("../dist/index.js"),
      "@page": at("../../../crates/anser-serve/page/src"),
      // The sources of the server's page are used from here, with the packages of here.
      preact: at("../node_modules/preact"),
      marked: at("../node_modules/marked"),
    },
  },
  worker: { format: "es" },
  server: { fs: { allow: [at("../../..")] } },
  build: { target: "es2023", modulePreload: false, reportCompressedSize: false },
  plugins: [demoModel(), offline()],
});
