// A thread of the processor's executor. It takes no more messages once it has lent itself.

import { initSync, lend_thread, report_crashed_thread } from "../engine/anser_web_threads.js";
import type { Shared } from "./threads.js";

declare const self: DedicatedWorkerGlobalScope;

self.onmessage = ({ data }: MessageEvent<Shared>) => {
  initSync(data);
  self.postMessage(null);
  try {
    lend_thread();
  } catch (thrown) {
    report_crashed_thread();
    throw thrown;
  }
};
