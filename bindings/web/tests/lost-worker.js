// The package's worker, whose device goes when the test says so.

import "/dist/worker/main.js";

const request = GPUAdapter.prototype.requestDevice;
GPUAdapter.prototype.requestDevice = async function (descriptor) {
  const device = await request.call(this, descriptor);
  new BroadcastChannel("lose").onmessage = () => device.destroy();
  return device;
};
