import { defineConfig } from "vite";

export default defineConfig({
  // Relative addresses: the page works below any path.
  base: "./",
  assetsInclude: ["**/*.wasm"],
  build: {
    outDir: "../services/gateway/static",
    emptyOutDir: true,
    target: "es2022",
    // Nothing is inlined as data: or script text, so the page needs no exception from a strict CSP.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rollupOptions: { input: ["index.html", "operate/index.html", "verify/index.html"] },
  },
  worker: {
    format: "es",
    // A worker obeys the rules that its own file is served with, and these are stricter below /verify/.
    rollupOptions: {
      output: {
        entryFileNames: ({ facadeModuleId }) =>
          facadeModuleId?.includes("/src/verify/") ? "verify/[name]-[hash].js" : "assets/[name]-[hash].js",
      },
    },
  },
  server: { fs: { allow: [".."] } },
});
