/** Builds the driver: `vite build --config tests/prove/vite.config.ts --mode page|threads --outDir FOLDER`. */
import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig(({ mode }) =>
  mode === "threads"
    ? {
        publicDir: false,
        ssr: { noExternal: true, target: "node" },
        build: {
          ssr: here("driver.threads.ts"),
          target: "node20",
          rollupOptions: { output: { entryFileNames: "driver.mjs", inlineDynamicImports: true } },
        },
      }
    : {
        root: here("."),
        base: "./",
        publicDir: false,
        build: {
          target: "es2022",
          assetsInlineLimit: 0,
          modulePreload: { polyfill: false },
          rollupOptions: { input: here("page.html") },
        },
        worker: { format: "es" },
      },
);
