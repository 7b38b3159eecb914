// Firefox as it comes, which playwright cannot drive: a page asks the test's server what to do, and does it in frames.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";

/** What updates, asks or reports at the first start. */
const PREFERENCES = {
  "app.update.enabled": false,
  "browser.aboutwelcome.enabled": false,
  "browser.shell.checkDefaultBrowser": false,
  "datareporting.policy.dataSubmissionEnabled": false,
  "toolkit.telemetry.reportingpolicy.firstRun": false,
};

/** WebGPU where Firefox does not give it to pages yet, on whatever driver there is. */
const WEBGPU = { "dom.webgpu.enabled": true, "dom.webgpu.workers.enabled": true, "gfx.webgpu.force-enabled": true, "gfx.webgpu.ignore-blocklist": true };

/** Starts Firefox with a profile on `server`; pages have as much of playwright's interface as tests of the engine use. */
export async function startFirefox(profile, server, { gpu = false } = {}) {
  const preferences = Object.entries({ ...PREFERENCES, ...(gpu ? WEBGPU : { "dom.webgpu.enabled": false }) }).map(([name, value]) => `user_pref("${name}", ${value});\n`);
  await writeFile(join(profile, "user.js"), preferences.join(""));
  const tasks = [];
  const waiting = new Map();
  let onTask = () => {};
  server.driver = async (request, response, pathname) => {
    if (pathname === "/driver/next") {
      if (tasks.length === 0) await new Promise((resolve) => (onTask = resolve));
      response.end(JSON.stringify(tasks.shift()));
    } else {
      const { id, value, error } = JSON.parse(await text(request));
      response.end();
      const { resolve, reject } = waiting.get(id);
      waiting.delete(id);
      if (error) reject(new Error(error));
      else resolve(value);
    }
  };
  let nTasks = 0;
  const ask = (name, kind, value) =>
    new Promise((resolve, reject) => {
      const id = nTasks++;
      waiting.set(id, { resolve, reject });
      tasks.push({ id, name, kind, value });
      onTask();
    });
  const firefox = spawn(process.env.FIREFOX, ["--headless", "--no-remote", "--profile", profile, `${server.url}/driver.html`], { stdio: "ignore" });
  let nPages = 0;
  const newPage = async () => {
    const name = `page ${nPages++}`;
    await ask(name, "open");
    let url = "about:blank";
    return {
      goto: (to) => ask(name, "goto", (url = to)),
      reload: () => ask(name, "goto", url),
      evaluate: (run, argument) => ask(name, "evaluate", { run: String(run), argument: JSON.stringify(argument) ?? "" }),
      async waitForFunction(run) {
        while (!(await this.evaluate(run))) await new Promise((resolve) => setTimeout(resolve, 50));
      },
      on() {},
      async close() {
        const errors = await ask(name, "close");
        if (errors.length > 0) throw new Error(errors.join("\n"));
      },
    };
  };
  return {
    newPage,
    setDefaultTimeout() {},
    async close() {
      firefox.kill();
      if (firefox.exitCode === null) await once(firefox, "exit");
    },
  };
}
