// The package as npm packs it, in a project of its own.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before } from "node:test";
import { fileURLToPath } from "node:url";
import { browserFor, test } from "./harness.mjs";
import { serve } from "./server.mjs";

const web = fileURLToPath(new URL("..", import.meta.url));
const shared = browserFor({ args: ["--disable-features=WebGPU"] });
let folder;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "anser-fresh-"));
  const modules = join(folder, "node_modules");
  await mkdir(join(modules, "anser-web"), { recursive: true });
  const run = (command, args, cwd) => execFileSync(command, args, { cwd, stdio: ["ignore", "pipe", "inherit"] }).toString();
  const [{ filename }] = JSON.parse(run("npm", ["pack", "--json", "--pack-destination", folder], web));
  run("tar", ["xzf", filename, "--strip-components=1", "-C", join(modules, "anser-web")], folder);
  for (const name of ["vite", "typescript"]) await symlink(join(web, "node_modules", name), join(modules, name));
  const files = {
    "package.json": JSON.stringify({ name: "fresh", private: true, type: "module" }),
    "index.html": '<!doctype html><title>fresh</title><link rel="icon" href="data:,"><pre></pre><script type="module" src="/main.ts"></script>',
    "main.ts": `import { load, type Model } from "anser-web";
const model: Model = await load("/models/demo-q8_0.gguf");
const session = await model.session();
for await (const piece of session.generate("Once upon a time", { maxTokens: 20, sampling: { preset: "greedy" } })) {
  document.querySelector("pre")?.append(piece);
}
document.title = "done";
`,
    "tsconfig.json": JSON.stringify({
      compilerOptions: { target: "ES2022", module: "ESNext", moduleResolution: "bundler", strict: true, noEmit: true, types: [], lib: ["ES2022", "DOM", "DOM.AsyncIterable"] },
      include: ["main.ts"],
    }),
  };
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
  run(process.execPath, [join(web, "node_modules/typescript/bin/tsc")], folder);
  run(process.execPath, [join(web, "node_modules/vite/bin/vite.js"), "build", "--logLevel", "warn"], folder);
});

after(() => rm(folder, { recursive: true, force: true }));

test(shared, "a fresh project checks its types, builds, and runs the demo model", async (page) => {
  const server = await serve({ "": join(folder, "dist"), models: join(web, "../../models") });
  try {
    await page.goto(`${server.url}/index.html`);
    await page.waitForFunction(() => document.title === "done");
    const text = await page.locator("pre").textContent();
    assert.ok(text.length > 20, text);
  } finally {
    await server.close();
  }
});
