import { createPublicKey, generateKeyPairSync, verify } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { defaultKeyPath, loadOrCreate, storeOf } from "../src/cli/keyfile.ts";
import { meshOf, optionsFrom, UsageError } from "../src/cli/options.ts";
import { CLI_WORDS, jsonOf, Story, workerId } from "../src/cli/report.ts";
import { socketClass } from "../src/cli/socket.ts";
import { identityFrom, sign } from "../src/core/identity.ts";
import { NEW_STATUS, PAGE_WORDS, type Status } from "../src/core/status.ts";

describe("options", () => {
  const of = (...args: string[]): unknown => optionsFrom(args, {});

  it("have defaults", () => {
    expect(of()).toEqual({
      mesh: "http://127.0.0.1:8765",
      keyFile: null,
      ephemeral: false,
      name: "",
      memoryMib: null,
      backend: "auto",
      quiet: false,
      json: false,
    });
  });

  it("take the mesh from the environment, and rather from the line", () => {
    const env = { SHARDY_URL: "mesh.example" };
    expect(optionsFrom([], env)).toMatchObject({ mesh: "http://mesh.example" });
    expect(optionsFrom(["--url", "https://other.example/"], env)).toMatchObject({ mesh: "https://other.example" });
    expect(optionsFrom([], { SHARDY_URL: "" })).toMatchObject({ mesh: "http://127.0.0.1:8765" });
  });

  it("are read", () => {
    const args = ["--name", "rack 7\n", "--memory-mib=64", "--backend", "gpu", "-q", "--json", "--key", "k"];
    expect(of(...args)).toMatchObject({
      name: "rack 7",
      memoryMib: 64,
      backend: "webgpu",
      quiet: true,
      json: true,
      keyFile: "k",
    });
    expect(of("--help", "--version")).toBe("help");
    expect(of("--version")).toBe("version");
  });

  it.each([
    ["127.0.0.1:80", "http://127.0.0.1"],
    ["ws://a:1", "http://a:1"],
    ["wss://a/", "https://a"],
    ["https://a/mesh/", "https://a/mesh"],
  ])("%s is %s", (text, mesh) => expect(meshOf(text)).toBe(mesh));

  it.each([
    [["--nope"], /--nope/],
    [["x"], /x/],
    [["--url"], /--url/],
    [["--url", "ftp://a"], /no address of a mesh/],
    [["--url", "http://"], /no address of a mesh/],
    [["--memory-mib", "63"], /64 to 4096/],
    [["--memory-mib", "4097"], /64 to 4096/],
    [["--memory-mib", "1e3"], /64 to 4096/],
    [["--backend", "cuda"], /auto, wasm and webgpu/],
    [["--key", "k", "--ephemeral"], /exclude each other/],
    [["--key", ""], /names no file/],
  ])("%j are refused in one line", (args, words) => {
    expect(() => of(...args)).toThrow(UsageError);
    expect(() => of(...args)).toThrow(words);
    expect(() => of(...args)).not.toThrow(/\n/);
  });
});

const { publicKey } = generateKeyPairSync("ed25519");
const PUBLIC_PEM = publicKey.export({ type: "spki", format: "pem" }).toString();
const OTHER_PEM = generateKeyPairSync("x25519").privateKey.export({ type: "pkcs8", format: "pem" }).toString();

describe("the key file", () => {
  let folder: string;
  let path: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "shardy-key-"));
    path = join(folder, "new", "worker.key");
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it("is made once, private, and used again", async () => {
    const key = loadOrCreate(path);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(join(folder, "new")).mode & 0o777).toBe(0o700);
    expect(readFileSync(path, "utf8")).toMatch(/^-----BEGIN PRIVATE KEY-----\n/);
    const who = await identityFrom(storeOf(key, crypto.subtle), crypto.subtle);
    const again = await identityFrom(storeOf(loadOrCreate(path), crypto.subtle), crypto.subtle);
    expect(again.publicKey).toEqual(who.publicKey);
    expect(who.privateKey.extractable).toBe(false);
    const message = new Uint8Array([1, 2, 3]);
    expect(verify(null, message, createPublicKey(key), await sign(again, message, crypto.subtle))).toBe(true);
  });

  it("is refused when others may read it", () => {
    loadOrCreate(path);
    for (const mode of [0o640, 0o604, 0o660]) {
      chmodSync(path, mode);
      expect(() => loadOrCreate(path)).toThrow(`open to others (mode ${mode.toString(8)}): run chmod 600`);
    }
  });

  it.each([
    ["no key", "not a key"],
    ["a public key", PUBLIC_PEM],
    ["a key of another kind", OTHER_PEM],
    ["nothing", ""],
    ["too much", "x".repeat(70_000)],
  ])("is refused when it holds %s", (_, text) => {
    mkdirSync(join(folder, "new"));
    writeFileSync(path, text, { mode: 0o600 });
    expect(() => loadOrCreate(path)).toThrow(UsageError);
    expect(readFileSync(path, "utf8")).toBe(text);
  });

  it("is not made where a folder is, or can't be", () => {
    expect(() => loadOrCreate(folder)).toThrow(/it is no file/);
    writeFileSync(join(folder, "file"), "");
    expect(() => loadOrCreate(join(folder, "file", "key"))).toThrow(UsageError);
    expect(existsSync(path)).toBe(false);
  });

  it("lies where the system keeps a user's data", () => {
    expect(defaultKeyPath({ XDG_DATA_HOME: "/data" }, "linux")).toBe("/data/shardy/js-worker.key");
    expect(defaultKeyPath({}, "darwin")).toMatch(/Library\/Application Support\/shardy\/js-worker\.key$/);
  });
});

describe("what is reported", () => {
  const KEY = "1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e";
  const status = (change: Partial<Status>): Status => ({ ...NEW_STATUS, ...change });

  it("names the worker by its libp2p peer id", () => {
    expect(workerId(KEY)).toBe("12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq");
  });

  it("says everything once", () => {
    const story = new Story();
    const texts = (change: Partial<Status>): string[] => story.news(status(change)).map((n) => n.text);
    const ready = { key: KEY, backend: "wasm", gops: 12.3 } as const;
    expect(texts({})).toEqual([]);
    expect(texts(ready)).toEqual([`worker ${workerId(KEY)}`, "computes on the processor: 12.3 GOPS"]);
    expect(texts({ ...ready, state: "connecting", message: "Connecting…" })).toEqual([]);
    const joined = { ...ready, tier: "cpu", session: "s1" };
    expect(texts(joined)).toEqual(["joined as cpu"]);
    expect(texts(joined)).toEqual([]);
    const notes = ["a task was given back"];
    expect(texts({ ...joined, notes })).toEqual(notes);
    expect(texts({ ...joined, notes })).toEqual([]);
    const lost = { ...ready, notes, state: "reconnecting", message: "Lost. Again in 1 s." } as const;
    expect(texts(lost)).toEqual(["Lost. Again in 1 s."]);
    expect(texts({ ...lost, message: "Connecting…" })).toEqual([]);
    expect(texts({ ...joined, notes, session: "s2" })).toEqual(["joined as cpu"]);
  });

  it("is one line of JSON with the mesh's figures", () => {
    const line = jsonOf(status({ key: KEY, tasksDone: 4, credit: { tasks: 3, ops: 2_500_000_000 }, notes: ["a\nb"] }));
    expect(line).not.toContain("\n");
    expect(JSON.parse(line)).toMatchObject({
      state: "preparing",
      worker: workerId(KEY),
      tasks_done: 4,
      verified: { tasks: 3, ops: 2_500_000_000 },
      credit: 2.5,
    });
    expect(JSON.parse(jsonOf(status({})))).toMatchObject({ worker: null, verified: null, credit: null });
  });

  it("has words for every close code after which the page ends too", () => {
    expect(Object.keys(CLI_WORDS.final)).toEqual(Object.keys(PAGE_WORDS.final));
  });
});

it("uses the socket of Bun, and in Node that of the package", () => {
  expect(socketClass({ node: "22.0.0" }).name).toBe("NodeSocket");
  const own = class {};
  vi.stubGlobal("WebSocket", own);
  expect(socketClass({ node: "22.0.0", bun: "1.4.5" })).toBe(own);
  vi.unstubAllGlobals();
});
