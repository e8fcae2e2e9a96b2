import { describe, expect, it } from "vitest";
import { decodeFrame } from "../src/core/frame.ts";
import { joinMessage } from "../src/core/identity.ts";
import { LruBytes } from "../src/core/lru.ts";
import { type Batch, Outbox, resultFrame } from "../src/core/outbox.ts";
import { LeaseQueue } from "../src/core/queue.ts";
import { creditOf } from "../src/core/status.ts";
import { backoffMs, FrameBudget, median } from "../src/core/timing.ts";
import type { Lease, Result } from "../src/core/types.ts";
import { toHex } from "./vectors.ts";

describe("operand cache", () => {
  const filled = (): { lru: LruBytes<string>; dropped: string[] } => {
    const dropped: string[] = [];
    const lru = new LruBytes<string>(100, (value) => dropped.push(value));
    for (const key of ["a", "b", "c"]) lru.add(key, key, 30);
    return { lru, dropped };
  };

  it("drops the least recently used", () => {
    const { lru, dropped } = filled();
    lru.get("a");
    lru.add("d", "d", 30);
    lru.trim();
    expect(dropped).toEqual(["b"]);
    expect(lru.bytes).toBe(90);
  });

  it("keeps what is pinned, past its bound, and drops it once let go", () => {
    const { lru, dropped } = filled();
    for (const key of ["a", "b", "c"]) lru.pin(key);
    lru.pin("a");
    lru.add("d", "d", 200, 1);
    lru.trim();
    expect(dropped).toEqual([]);
    expect(lru.pinnedBytes).toBe(290);
    lru.unpin("a");
    lru.unpin("b");
    lru.trim();
    expect(dropped).toEqual(["b"]);
  });

  it("refuses an unpin too many, a second add and a pin on nothing", () => {
    const { lru } = filled();
    expect(() => lru.unpin("a")).toThrow();
    expect(() => lru.add("a", "a", 1)).toThrow();
    expect(() => lru.pin("z")).toThrow();
  });
});

const lease = (id: string): Lease => ({
  lease: id,
  task: `t${id}`,
  job: "j",
  kind: "matmul",
  deadline_ms: 1000,
  p: {},
});

describe("lease queue", () => {
  it("keeps the order and knows a lease it has", () => {
    const queue = new LeaseQueue();
    for (const id of ["1", "2", "3"]) queue.add(lease(id));
    expect(queue.add(lease("2"))).toBeNull();
    expect(queue.shift()?.lease.lease).toBe("1");
    expect(queue.add(lease("1"))).toBeNull();
    queue.forget("1");
    expect(queue.add(lease("1"))).not.toBeNull();
    expect([...queue.upcoming()].map((e) => e.lease.lease)).toEqual(["2", "3", "1"]);
  });

  it("cancels only what has not started", () => {
    const queue = new LeaseQueue();
    for (const id of ["1", "2", "3"]) queue.add(lease(id));
    queue.shift();
    expect(queue.cancel(["1", "3", "9"]).map((e) => e.lease.lease)).toEqual(["3"]);
    expect(queue.ids()).toEqual(["1", "2"]);
    expect(queue.clear().map((e) => e.lease.lease)).toEqual(["2"]);
    expect(queue.waiting).toBe(0);
  });

  it("does not grow with the leases that passed through", () => {
    const queue = new LeaseQueue();
    for (let i = 0; i < 10_000; i++) {
      queue.add(lease(String(i)));
      expect(queue.shift()?.lease.lease).toBe(String(i));
      queue.forget(String(i));
    }
    expect(queue.known).toBe(0);
    expect(queue.peek()).toBeUndefined();
  });
});

function result(id: string, bytes: number | null): Result {
  const carried = bytes === null ? null : new Uint8Array(bytes).fill(7);
  return {
    lease: id,
    task: "t",
    digest: new Uint8Array(32),
    len: bytes ?? 9,
    ms: 0.5,
    backend: "wasm",
    spans: {},
    bytes: carried,
    leaf: new Uint8Array(32).fill(3),
  };
}

const SIG = new Uint8Array(64).fill(5);

describe("outbox", () => {
  const read = (
    batch: Batch | null,
  ): { leases: string[]; s: (number | null)[]; segments: number[] } => {
    if (batch === null) throw new Error("no batch");
    const { header, segments } = decodeFrame(resultFrame(batch, SIG).buffer);
    expect(header.sig).toEqual(SIG);
    expect(header.results).not.toContainEqual(expect.objectContaining({ leaf: expect.anything() as unknown }));
    const results = header.results as { lease: string; s: number | null }[];
    return { leases: results.map((r) => r.lease), s: results.map((r) => r.s), segments: segments.map((x) => x.length) };
  };

  it("gathers carried and uploaded results into one frame", () => {
    const box = new Outbox();
    box.add(result("1", 4));
    box.add(result("2", null));
    box.add(result("3", 8));
    expect(read(box.take())).toEqual({ leases: ["1", "2", "3"], s: [0, null, 1], segments: [4, 8] });
    expect(box.take()).toBeNull();
  });

  it("keeps to 512 results and to the frame's size", () => {
    const box = new Outbox();
    for (let i = 0; i < 513; i++) box.add(result(String(i), 1));
    expect(box.full).toBe(true);
    expect(read(box.take()).leases).toHaveLength(512);
    expect(read(box.take()).leases).toEqual(["512"]);
    for (let i = 0; i < 100; i++) box.add(result(`b${i}`, 256 * 1024));
    const batch = box.take();
    expect(batch === null ? 0 : resultFrame(batch, SIG).length).toBeLessThanOrEqual(16 * 1024 * 1024);
    expect(read(batch).leases.length).toBeGreaterThan(50);
  });

  it("sends again what no ack has named, in order", () => {
    const box = new Outbox();
    for (const id of ["1", "2", "3"]) box.add(result(id, 4));
    box.take();
    box.ack("2");
    expect(box.held()).toEqual(["1", "3"]);
    box.resend();
    expect(read(box.take()).leases).toEqual(["1", "3"]);
  });

  it("knows a batch that was taken before a resend", () => {
    const box = new Outbox();
    box.add(result("1", 4));
    const batch = box.take();
    expect(batch?.round).toBe(box.round);
    box.resend();
    expect(batch?.round).not.toBe(box.round);
    expect(box.take()?.round).toBe(box.round);
  });
});

describe("timing", () => {
  it("backs off from half a second to 15, with jitter", () => {
    expect(backoffMs(0, 0)).toBe(250);
    expect(backoffMs(0, 1)).toBe(750);
    expect(backoffMs(3, 0.5)).toBe(4000);
    expect(backoffMs(5, 0.5)).toBe(15_000);
    expect(backoffMs(500, 0.5)).toBe(15_000);
  });

  it("lets a burst through, then the rate", () => {
    const budget = new FrameBudget(0, 1000, 10);
    const taken = (now: number): number => {
      let n = 0;
      while (budget.take(now)) n += 1;
      return n;
    };
    expect(taken(0)).toBe(10);
    expect(taken(5)).toBe(5);
    expect(taken(1000)).toBe(10);
  });

  it("takes the middle", () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 2, 3])).toBe(2.5);
  });
});

describe("credit", () => {
  it("is what the mesh says, past 2⁵³ too", () => {
    expect(creditOf({ tasks: 3, ops: 5_000_000 })).toEqual({ tasks: 3, ops: 5_000_000 });
    expect(creditOf({ tasks: 0, ops: 2 ** 60, more: "" })).toEqual({ tasks: 0, ops: 2 ** 60 });
  });

  it.each([undefined, null, 7, "1", [], {}, { tasks: 1 }, { tasks: -1, ops: 1 }, { tasks: 1, ops: Number.NaN }])(
    "is none where the answer has %j",
    (value) => expect(creditOf(value)).toBeNull(),
  );
});

it("signs tag, zero byte, nonce, key and session", () => {
  const message = joinMessage(new Uint8Array([1, 2]), new Uint8Array([3]), "é");
  expect(toHex(message)).toBe(`${Buffer.from("shardy-join-v1").toString("hex")}00010203c3a9`);
});
