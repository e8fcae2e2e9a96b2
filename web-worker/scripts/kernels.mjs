/** Writes the WGSL of every kernel variant, with their manifest, to libs/shardy_common/kernels/. */
import { writeFile } from "node:fs/promises";
import { createServer } from "vite";

const out = new URL("../../libs/shardy_common/kernels/", import.meta.url);
const server = await createServer({
  root: new URL("..", import.meta.url).pathname,
  configFile: false,
  server: { middlewareMode: true, ws: false },
  logLevel: "error",
});
try {
  const { kernelFiles } = await server.ssrLoadModule("/src/kernels/manifest.ts");
  for (const [name, text] of kernelFiles()) {
    await writeFile(new URL(name, out), text);
    console.log(`${name} ${text.length} bytes`);
  }
} finally {
  await server.close();
}
