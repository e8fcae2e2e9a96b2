import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { blake3 } from "@noble/hashes/blake3.js";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { folderStore } from "../../src/prove/folderstore.ts";
import { COMPRESSED_MAX, hashWith, type KeyFile, Keys } from "../../src/prove/keys.ts";
import type { Progress } from "../../src/prove/prover.ts";
import { enginePath, readBytes, toHex } from "../vectors.ts";

const engineBytes = readBytes(enginePath);

/** What the server sends by path, and how often it was asked. */
let files: Map<string, Buffer>;
let asked: string[];
/** Paths whose answer never ends. */
let endless: Set<string>;
let server: Server;
let origin: string;
let folder: string;

beforeEach(async () => {
  files = new Map();
  asked = [];
  endless = new Set();
  server = createServer((request, response) => {
    const path = request.url ?? "";
    asked.push(path);
    const found = files.get(path);
    if (found === undefined) response.writeHead(404).end();
    else if (endless.has(path)) response.writeHead(200).write(found);
    else response.writeHead(200).end(found);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  folder = mkdtempSync(join(tmpdir(), "shardy-keys-"));
});

afterEach(() => {
  server.closeAllConnections();
  server.close();
  rmSync(folder, { recursive: true });
});

/** A file on the server: `content`, compressed. */
function offer(name: string, content: Uint8Array): KeyFile {
  const packed = gzipSync(content);
  files.set(`/${name}`, packed);
  return { url: `${origin}/${name}`, digest: toHex(blake3(packed)), bytes: packed.length };
}

const keysOf = (keptMax?: number): Keys =>
  new Keys({ store: folderStore(folder), fetch, hash: hashWith(engineBytes) }, keptMax);

const noise = (seed: number, size: number): Uint8Array => blake3(new Uint8Array([seed]), { dkLen: size });
const bytesOf = async (blob: Blob): Promise<string> => toHex(new Uint8Array(await blob.arrayBuffer()));
const pathOf = (file: KeyFile): string => join(folder, `${file.digest}.gz`);

describe("a proving key", () => {
  it("is fetched once, kept compressed, and given unpacked", async () => {
    const content = noise(1, 300_000);
    const file = offer("a", content);
    const told: Progress[] = [];
    const first = await keysOf().get(file, { onProgress: (progress) => told.push(progress) });
    expect(await bytesOf(first)).toBe(toHex(content));
    expect(readFileSync(pathOf(file))).toEqual(files.get("/a"));
    expect(await bytesOf(await keysOf().get(file))).toBe(toHex(content));
    expect(asked).toEqual(["/a"]);
    const parts = told.map(({ part }) => part);
    expect(parts).toEqual([...parts].sort((one, other) => one - other));
    expect([parts[0], parts.at(-1)]).toEqual([0, 1]);
  });

  it.each([
    ["one bit of it", (bytes: Buffer) => void bytes.writeUInt8(bytes.readUInt8(99) ^ 1, 99)],
    ["its end", (bytes: Buffer) => bytes.subarray(0, -1)],
    ["all of it", () => Buffer.alloc(0)],
  ])("is fetched again where %s was damaged", async (_, damage) => {
    const content = noise(2, 50_000);
    const file = offer("b", content);
    await keysOf().get(file);
    const kept = readFileSync(pathOf(file));
    writeFileSync(pathOf(file), damage(kept) ?? kept);
    expect(await bytesOf(await keysOf().get(file))).toBe(toHex(content));
    expect(asked).toEqual(["/b", "/b"]);
    expect(readFileSync(pathOf(file))).toEqual(files.get("/b"));
  });

  it("is refused where the server sends another one, and nothing of it is kept", async () => {
    const file = offer("c", noise(3, 5_000));
    const right = files.get("/c") as Buffer;
    const flipped = Buffer.from(right);
    flipped[100] = (flipped[100] as number) ^ 0x10;
    for (const [wrong, words] of [
      [flipped, /is not the one asked for/],
      [right.subarray(0, -1), /is not the one asked for/],
      [Buffer.concat([right, Buffer.from([0])]), /longer than the one asked for/],
    ] as const) {
      files.set("/c", wrong);
      await expect(keysOf().get(file)).rejects.toThrow(words);
    }
    files.delete("/c");
    await expect(keysOf().get(file)).rejects.toThrow(/answer 404/);
    expect(readdirSync(folder)).toEqual([]);
  });

  it("is refused where it is no gzip file, whatever its digest", async () => {
    const plain = Buffer.from(noise(4, 1_000));
    files.set("/d", plain);
    const file = { url: `${origin}/d`, digest: toHex(blake3(plain)), bytes: plain.length };
    await expect(keysOf().get(file)).rejects.toThrow(/no gzip file/);
  });

  it("is not asked for where its size or digest cannot be", async () => {
    const file = offer("e", noise(5, 100));
    await expect(keysOf().get({ ...file, bytes: COMPRESSED_MAX + 1 })).rejects.toThrow(/at most/);
    await expect(keysOf().get({ ...file, bytes: 0 })).rejects.toThrow(/at most/);
    await expect(keysOf().get({ ...file, digest: `../${file.digest.slice(3)}` })).rejects.toThrow(/no digest/);
    expect(asked).toEqual([]);
  });

  it("says that it could not be fetched where nobody answers, and gives up when it is told to", async () => {
    const file = offer("f", noise(6, 1_000));
    await expect(keysOf().get({ ...file, url: "http://127.0.0.1:1/f" })).rejects.toThrow(/could not be fetched/);
    endless.add("/f");
    const stop = new AbortController();
    const onProgress = (progress: Progress): void => void (progress.part > 0 && stop.abort(new Error("enough")));
    files.set("/f", (files.get("/f") as Buffer).subarray(0, 500));
    await expect(keysOf().get(file, { signal: stop.signal, onProgress })).rejects.toThrow("enough");
  });

  it("lets the oldest go where there is no room, and is given unkept where there is none at all", async () => {
    const made = [1, 2, 3].map((seed) => offer(`g${seed}`, noise(seed, 10_000)));
    const [one, two, three] = made as [KeyFile, KeyFile, KeyFile];
    const keys = keysOf(2 * one.bytes + 100);
    await keys.get(one);
    await keys.get(two);
    // Files written within a millisecond have no order.
    utimesSync(pathOf(one), 1_000, 1_000);
    utimesSync(pathOf(two), 2_000, 2_000);
    await keys.get(three);
    expect(readdirSync(folder).sort()).toEqual([two, three].map(({ digest }) => `${digest}.gz`).sort());
    const large = offer("h", noise(7, 30_000));
    expect((await keys.get(large)).size).toBe(30_000);
    expect(readdirSync(folder)).toHaveLength(2);
  });

  it("is given although the folder cannot be written", async () => {
    const file = offer("i", noise(8, 1_000));
    const blocked = join(folder, "file");
    writeFileSync(blocked, "");
    const keys = new Keys({ store: folderStore(join(blocked, "x")), fetch, hash: hashWith(engineBytes) });
    expect((await keys.get(file)).size).toBe(1_000);
  });

  it("leaves no half of a file behind that another process left", async () => {
    const [old, young] = ["old.1.part", "young.2.part"].map((name) => join(folder, name)) as [string, string];
    for (const path of [old, young]) writeFileSync(path, "half");
    utimesSync(old, 1_000, 1_000);
    await keysOf().get(offer("j", noise(9, 100)));
    expect(readdirSync(folder)).toContain("young.2.part");
    expect(readdirSync(folder)).not.toContain("old.1.part");
  });
});
