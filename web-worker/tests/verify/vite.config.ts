/** Builds the driver: `vite build --config tests/verify/vite.config.ts --outDir FOLDER`. */
import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

export default defineConfig({
  publicDir: false,
  ssr: { noExternal: true, target: "node" },
  build: {
    ssr: fileURLToPath(new URL("driver.ts", import.meta.url)),
    target: "node20",
    rollupOptions: { output: { entryFileNames: "driver.mjs", inlineDynamicImports: true } },
  },
});
