import { defineConfig } from "vite";

export default defineConfig({
  // Relative addresses: the page works below any path.
  base: "./",
  build: {
    outDir: "../services/gateway/static",
    emptyOutDir: true,
    target: "es2022",
    // Nothing is inlined as data: or script text, so the page needs no exception from a strict CSP.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rollupOptions: { input: ["index.html", "operate/index.html"] },
  },
  worker: { format: "es" },
  server: { fs: { allow: [".."] } },
});
