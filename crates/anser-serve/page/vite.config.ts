import { defineConfig } from "vite";

// File names carry no hash: the server gives each file a name with the hash of its bytes when it starts.
export default defineConfig({
  base: "./",
  build: {
    target: "es2023",
    modulePreload: false,
    assetsInlineLimit: 0,
    reportCompressedSize: false,
    rolldownOptions: {
      output: {
        entryFileNames: "assets/page.js",
        assetFileNames: "assets/page[extname]",
        codeSplitting: false,
      },
    },
  },
});
