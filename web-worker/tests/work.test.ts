import { beforeEach, describe, expect, it } from "vitest";
import { Compute } from "../src/core/compute.ts";
import { decodeFrame, type Frame } from "../src/core/frame.ts";
import { leafOf, rootOf } from "../src/core/merkle.ts";
import { OperandStore } from "../src/core/operands.ts";
import { sleep } from "../src/core/timing.ts";
import type { Lease, Operand } from "../src/core/types.ts";
import { Work } from "../src/core/work.ts";
import type { Engine } from "../src/engine/engine.ts";
import { loadEngine, toHex } from "./vectors.ts";

const K = 16;
const ROWS = 8;
const BYTES = K * ROWS;

let engine: Engine;
let sent: Frame[];
let failed: [lease: string, code: string][];
let fetched: string[];
let faults: number;
let uploads: Map<string, Uint8Array>;
let online: boolean;
let broken: unknown[];
let signer: (root: Uint8Array) => Promise<Uint8Array>;

/** Blob `d` is BYTES bytes that depend on its first letter. */
const blob = (d: string): Uint8Array<ArrayBuffer> => new Uint8Array(BYTES).map((_, i) => d.charCodeAt(0) * 31 + i * 7);
const digest = (letter: string): string => letter.repeat(64);
const operand = (letter: string): Operand => ({ d: digest(letter), o: 0, l: BYTES, r: ROWS, c: K });
const lease = (id: string, a: string, b: string): Lease => ({
  lease: id,
  task: `t-${id}`,
  job: "j",
  kind: "matmul",
  deadline_ms: 60_000,
  p: { dtype: "int8", k: K, a: operand(a), b: operand(b) },
});

const fakeFetch = (async (input: RequestInfo | URL, init?: RequestInit) => {
  const url = String(input);
  if (init?.method === "PUT") {
    uploads.set(url, new Uint8Array(init.body as Uint8Array).slice());
    return new Response("{}", { status: 201 });
  }
  fetched.push(url.slice(-64, -63));
  if (faults > 0) {
    faults -= 1;
    return new Response("", { status: 503 });
  }
  return new Response(blob(url.slice(-64)), { status: 206 });
}) as typeof fetch;

function newWork(capacity = 1 << 20): { work: Work; store: OperandStore } {
  const source = { base: "http://mesh", token: () => "t", fetch: fakeFetch };
  const store = new OperandStore(engine, capacity, source);
  const stopping = new AbortController().signal;
  const compute = new Compute(engine, store, "wasm", stopping, () => undefined);
  const wire = {
    open: () => online,
    mayStartFrame: () => true,
    sign: (root: Uint8Array) => signer(root),
    send: (bytes: Uint8Array<ArrayBuffer>) => void sent.push(decodeFrame(bytes.buffer)),
    failed: (id: string, code: string) => void failed.push([id, code]),
    broken: (error: unknown) => void broken.push(error),
  };
  const quiet = { started: () => undefined, finished: () => undefined, failed: () => undefined, idle: () => undefined };
  return { work: new Work({ engine, store, compute, stopping }, source, wire, quiet), store };
}

const offer = (work: Work, leases: Lease[], carried: string[] = []): void =>
  work.leases({
    header: { t: "lease", leases, carry: carried.map((d, i) => [digest(d), 0, BYTES, i]) },
    segments: carried.map((d) => blob(digest(d))),
  });

async function settled(work: Work): Promise<void> {
  const end = performance.now() + 5_000;
  while ((work.queue.known > 0 || work.active > 0) && performance.now() < end) await sleep(2);
  expect(work.queue.known).toBe(0);
  while (online && work.outbox.ready > 0 && performance.now() < end) await sleep(2);
  // The last frame's signature.
  await sleep(5);
}

function expected(a: string, b: string): string {
  const [x, y] = [new Int8Array(blob(a).buffer), new Int8Array(blob(b).buffer)];
  const c = new Int32Array(ROWS * ROWS);
  for (let i = 0; i < ROWS; i++) {
    for (let j = 0; j < ROWS; j++) {
      for (let p = 0; p < K; p++) c[i * ROWS + j] = (c[i * ROWS + j] ?? 0) + (x[i * K + p] ?? 0) * (y[j * K + p] ?? 0);
    }
  }
  return toHex(new Uint8Array(c.buffer));
}

const results = (): { lease: string; bytes: string }[] =>
  sent.flatMap(({ header, segments }) =>
    (header.results as { lease: string; s: number }[]).map((r) => ({
      lease: r.lease,
      bytes: toHex(segments[r.s] ?? new Uint8Array()),
    })),
  );

beforeEach(async () => {
  engine = await loadEngine();
  [sent, failed, fetched, faults, uploads] = [[], [], [], 0, new Map()];
  [online, broken] = [true, []];
  signer = (root) => Promise.resolve(new Uint8Array([...root, ...root]));
});

describe("work", () => {
  it("finishes carried leases in order, sharing frames, without a fetch", async () => {
    const { work } = newWork();
    const ids = Array.from({ length: 50 }, (_, i) => String(i));
    offer(
      work,
      ids.map((id) => lease(id, "a", "b")),
      ["a", "b"],
    );
    await settled(work);
    expect(results().map((r) => r.lease)).toEqual(ids);
    expect(new Set(results().map((r) => r.bytes))).toEqual(new Set([expected("a", "b")]));
    expect(sent.length).toBeLessThan(ids.length);
    expect(fetched).toEqual([]);
  });

  it("fetches each operand once, however many leases name it", async () => {
    const { work } = newWork();
    offer(work, [lease("1", "a", "b"), lease("2", "a", "c"), lease("3", "b", "b")]);
    await settled(work);
    expect(fetched.sort()).toEqual(["a", "b", "c"]);
    expect(results().map((r) => r.bytes)).toEqual([expected("a", "b"), expected("a", "c"), expected("b", "b")]);
  });

  it("stays exact when the cache holds one lease's operands only", async () => {
    const { work, store } = newWork(2 * BYTES);
    const pairs = ["ab", "cd", "ef", "ab", "db", "fa"];
    offer(
      work,
      pairs.map((p, i) => lease(String(i), p.charAt(0), p.charAt(1))),
    );
    await settled(work);
    expect(results().map((r) => r.bytes)).toEqual(pairs.map((p) => expected(p.charAt(0), p.charAt(1))));
    expect(store.bytes).toBeLessThanOrEqual(2 * BYTES);
  });

  it("gives everything it allocated back", async () => {
    const { work, store } = newWork();
    const before = engine.bytesInUse;
    offer(work, [lease("1", "a", "b"), lease("2", "c", "d"), { ...lease("3", "a", "b"), kind: "none" }]);
    await settled(work);
    expect(engine.bytesInUse).toBe(before + Math.ceil(BYTES / 64) * 64 * 4);
    expect(store.roomBytes).toBe(1 << 20);
    expect(failed).toEqual([["3", "unsupported"]]);
  });

  it("tries a fetch again, then gives the lease back and goes on", async () => {
    const { work } = newWork();
    faults = 1;
    offer(work, [lease("1", "a", "b")]);
    await settled(work);
    expect(results()).toHaveLength(1);
    faults = 3;
    offer(work, [lease("2", "c", "c"), lease("3", "a", "b")]);
    await settled(work);
    expect(failed).toEqual([["2", "fetch"]]);
    expect(results().map((r) => r.lease)).toEqual(["1", "3"]);
  });

  it("does not work a lease twice", async () => {
    const { work } = newWork();
    offer(work, [lease("1", "a", "b"), lease("1", "a", "b")], ["a", "b"]);
    await settled(work);
    offer(work, [lease("1", "a", "b")]);
    await settled(work);
    expect(results()).toHaveLength(1);
    work.acks([["1", "accepted"]]);
    expect(work.held()).toEqual([]);
  });
});

describe("frames of results", () => {
  const signedLeases = (): string[][] =>
    sent.map(({ header }) => (header.results as { lease: string }[]).map((r) => r.lease));
  /** Signatures that a test lets go one by one. */
  const held = (): { release: () => void; asked: () => number } => {
    const waiting: (() => void)[] = [];
    let asked = 0;
    signer = (root) => {
      asked += 1;
      return new Promise((resolve) => waiting.push(() => resolve(new Uint8Array([...root, ...root]))));
    };
    return { release: () => waiting.shift()?.(), asked: () => asked };
  };

  it("carry one signature each, over their own results", async () => {
    const { work } = newWork();
    offer(
      work,
      Array.from({ length: 600 }, (_, i) => lease(String(i), "a", "b")),
      ["a", "b"],
    );
    await settled(work);
    expect(sent.length).toBeLessThan(60);
    const hash = (bytes: Uint8Array): Uint8Array<ArrayBuffer> => engine.hashBytes(bytes);
    for (const { header } of sent) {
      const results = header.results as { lease: string; digest: Uint8Array; len: number }[];
      const root = rootOf(
        hash,
        results.map((r) => leafOf(hash, r.lease, r.digest, r.len)),
      );
      expect(toHex(header.sig as Uint8Array)).toBe(toHex(root) + toHex(root));
    }
    expect(signedLeases().flat()).toEqual(Array.from({ length: 600 }, (_, i) => String(i)));
  });

  it("wait for their signature one at a time; what is finished meanwhile shares the next", async () => {
    const { work } = newWork();
    const { release, asked } = held();
    offer(work, [lease("1", "a", "b")], ["a", "b"]);
    await sleep(5);
    for (const id of ["2", "3", "4"]) {
      offer(work, [lease(id, "a", "b")]);
      await sleep(2);
    }
    expect(asked()).toBe(1);
    expect(sent).toEqual([]);
    release();
    await sleep(5);
    expect(signedLeases()).toEqual([["1"]]);
    release();
    await sleep(5);
    expect(signedLeases()).toEqual([["1"], ["2", "3", "4"]]);
    expect(asked()).toBe(2);
  });

  it("are not sent twice when a session ends while they are signed", async () => {
    const { work } = newWork();
    const { release } = held();
    offer(work, [lease("1", "a", "b"), lease("2", "a", "b")], ["a", "b"]);
    await sleep(5);
    online = false;
    offer(work, [lease("3", "a", "b")]);
    await sleep(5);
    online = true;
    work.resend();
    release();
    await sleep(5);
    expect(sent).toEqual([]);
    release();
    await sleep(5);
    expect(signedLeases()).toEqual([["1", "2", "3"]]);
    expect(work.held()).toEqual(["1", "2", "3"]);
  });

  it("wait for a session, and ask for no signature before", async () => {
    const { work } = newWork();
    const { release, asked } = held();
    online = false;
    offer(work, [lease("1", "a", "b")], ["a", "b"]);
    await settled(work);
    expect(asked()).toBe(0);
    online = true;
    work.resend();
    release();
    await sleep(5);
    expect(signedLeases()).toEqual([["1"]]);
  });

  it("tell of a key that does not sign", async () => {
    const { work } = newWork();
    signer = () => Promise.reject(new Error("no key"));
    offer(work, [lease("1", "a", "b")], ["a", "b"]);
    await settled(work);
    expect(broken.map(String)).toEqual(["Error: no key"]);
    expect(sent).toEqual([]);
  });
});
