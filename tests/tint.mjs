// Every WGSL file of a folder through Dawn's Tint, the compiler in Chrome: parsed, checked for uniformity, and its entry point
// made into a pipeline on the Vulkan driver that there is. tests/portability.sh calls it.
//   node tests/tint.mjs FOLDER_OF_WGSL FOLDER_OF_NODE_MODULES
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const [folder, modules] = process.argv.slice(2);
const entry = createRequire(join(resolve(modules), 'x.js')).resolve('webgpu');
const { create, globals } = await import(pathToFileURL(entry));
Object.assign(globalThis, globals);

const gpu = create([]);
const adapter = await gpu.requestAdapter();
if (!adapter) {
    console.error('Dawn found no adapter');
    process.exit(1);
}
const wanted = ['subgroups', 'shader-f16'].filter((f) => adapter.features.has(f));
const device = await adapter.requestDevice({ requiredFeatures: wanted });

const files = readdirSync(folder).filter((f) => f.endsWith('.wgsl')).sort();
let failed = 0;
const foreign = [];
for (const file of files) {
    // naga knows subgroup operations without being asked, Tint only when asked.
    let code = readFileSync(join(folder, file), 'utf8');
    if (/\bsubgroup[A-Z]/.test(code) && !/^enable subgroups;/m.test(code)) code = `enable subgroups;\n${code}`;
    // 64-bit integers and cooperative matrices are wgpu's own: a shader with them is a variant for the adapters that have them, and runs
    // nowhere else.
    if (/\bu64\b|\bcoop_mat/.test(code)) {
        foreign.push(file);
        continue;
    }
    // The files are called `op.entry.wgsl`, or `op.entry.variant.wgsl`; the entry point may be said in the first line.
    const entryPoint = code.match(/^\/\/ entry point: (\w+)/m)?.[1] ?? file.split('.')[1];
    const complaints = [];
    device.pushErrorScope('validation');
    const module = device.createShaderModule({ label: file, code });
    for (const m of (await module.getCompilationInfo()).messages) {
        complaints.push(`${m.type} at line ${m.lineNum}: ${m.message}`);
    }
    try {
        await device.createComputePipelineAsync({ label: file, layout: 'auto', compute: { module, entryPoint } });
    } catch (e) {
        complaints.push(`no pipeline: ${e.message}`);
    }
    const error = await device.popErrorScope();
    if (error) complaints.push(error.message);
    if (complaints.length > 0) {
        failed += 1;
        console.error(`${file}:\n  ${complaints.join('\n  ')}`);
    }
}
const judged = files.length - foreign.length;
console.log(`Tint took ${judged - failed} of ${judged} shaders`);
if (foreign.length > 0) console.log(`left out, with 64-bit integers or cooperative matrices that WGSL has not: ${foreign.join(', ')}`);
process.exit(failed === 0 && judged > 0 ? 0 : 1);
