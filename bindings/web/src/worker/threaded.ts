// The worker whose processor has threads, for pages that are cross-origin isolated.

import * as module from "../engine/anser_web_threads.js";
import { Engine, type Module } from "./engine.js";
import { serve } from "./serve.js";
import { startThreads } from "./threads.js";

// Both modules have the same source, and with it the same interface.
serve(new Engine(module as unknown as Module, startThreads));
