import { beforeEach, describe, expect, it } from "vitest";
import { Compute } from "../src/core/compute.ts";
import { decodeFrame, type Frame } from "../src/core/frame.ts";
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
    send: (bytes: Uint8Array<ArrayBuffer>) => sent.push(decodeFrame(bytes.buffer)) > 0,
    mayStartFrame: () => true,
    failed: (id: string, code: string) => void failed.push([id, code]),
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
