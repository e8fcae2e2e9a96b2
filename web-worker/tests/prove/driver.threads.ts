/** node driver.mjs PROVER.wasm ZKEY R1CS ORDER.json: follows the order, and prints the outcome. */
import { readFileSync } from "node:fs";
import { servesAsThread, threadHost } from "../../src/prove/threads.ts";
import { follow, type Order } from "./driver.ts";

async function main(): Promise<void> {
  const [module, zkey, r1cs, order] = process.argv.slice(2, 6).map((path) => readFileSync(path)) as [
    Buffer<ArrayBuffer>,
    Buffer<ArrayBuffer>,
    Buffer<ArrayBuffer>,
    Buffer<ArrayBuffer>,
  ];
  const host = threadHost(module, new URL(import.meta.url));
  const files = { zkey: new Blob([zkey]), r1cs: new Blob([r1cs]) };
  const outcome = await follow(host, files, JSON.parse(order.toString()) as Order);
  const usage = process.resourceUsage();
  process.stdout.write(JSON.stringify({ outcome, maxRssKib: usage.maxRSS }));
}

if (!servesAsThread()) await main();
