// Compiles every WGSL text of a folder with Tint and prints what it refuses. Usage: node check.mjs FOLDER
//
// Dawn's null backend needs no GPU and no driver: it parses, resolves and checks uniformity as Chromium of the same month does.
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { create, globals } from 'webgpu';

Object.assign(globalThis, globals);

const [folder] = process.argv.slice(2);
if (!folder) {
  console.error('usage: node check.mjs FOLDER');
  process.exit(2);
}

const gpu = create(['backend=null']);
const adapter = await gpu.requestAdapter();
const wanted = ['shader-f16', 'subgroups'].filter((feature) => adapter.features.has(feature));
const device = await adapter.requestDevice({ requiredFeatures: wanted });

// Tint wants this line where subgroup operations are used; naga refuses it.
const withSubgroups = (text) => (/@builtin\(subgroup|subgroup[A-Z]\w*\(/.test(text) ? `enable subgroups;\n${text}` : text);

let failed = 0;
const files = readdirSync(folder).filter((name) => name.endsWith('.wgsl')).sort();
for (const file of files) {
  device.pushErrorScope('validation');
  const module = device.createShaderModule({ code: withSubgroups(readFileSync(join(folder, file), 'utf8')) });
  const { messages } = await module.getCompilationInfo();
  await device.popErrorScope();
  const errors = messages.filter(({ type }) => type === 'error');
  if (errors.length > 0) {
    failed += 1;
    errors.forEach(({ lineNum, message }) => console.error(`${file}:${lineNum}: ${message}`));
  }
}
console.log(`tint: ${files.length - failed} of ${files.length} texts are valid (features ${wanted.join(', ') || 'none'})`);
// Dawn's objects keep the process alive.
process.exit(failed === 0 && files.length > 0 ? 0 : 1);
