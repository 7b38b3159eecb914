// The worker whose processor has one thread, and which runs models on GPUs.

import * as module from "../engine/anser_web.js";
import { Engine } from "./engine.js";
import { serve } from "./serve.js";

serve(new Engine(module));
