/** One file for Node and Bun: the worker, the engine's module and the socket, with nothing to install beside it. */
import { defineConfig } from "vite";

export default defineConfig({
  publicDir: false,
  assetsInclude: ["**/*.wasm"],
  // Packages that `ws` would use if they were installed: beside one file there are none.
  define: { "process.env.WS_NO_BUFFER_UTIL": "true", "process.env.WS_NO_UTF_8_VALIDATE": "true" },
  ssr: { noExternal: true, target: "node" },
  build: {
    ssr: "src/cli/main.ts",
    outDir: "dist",
    emptyOutDir: true,
    target: "node20",
    rollupOptions: {
      output: { entryFileNames: "shardy-worker.mjs", inlineDynamicImports: true, banner: "#!/usr/bin/env node" },
    },
  },
});
