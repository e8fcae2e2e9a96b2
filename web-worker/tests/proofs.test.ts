import { beforeEach, describe, expect, it } from "vitest";
import { type Asked, askedOf, operandsOf } from "../src/core/asked.ts";
import { FrameError, type Header } from "../src/core/frame.ts";
import { type Maker, ProofDesk, type Shown } from "../src/core/proofs.ts";
import { wireOf } from "../src/core/proving.ts";
import { WorkError } from "../src/core/types.ts";
import { NEW_STATUS } from "../src/core/status.ts";
import { displayOf } from "../src/page/words.ts";
import { fromHex, toHex } from "./vectors.ts";

const D = "ab".repeat(32);
const bytes = (fill: number, length = 32): Uint8Array => new Uint8Array(length).fill(fill);

/** A frame for a result of 20×12, which circuit v2-8x8x8 cuts into 3×2 tiles. */
const frame = (change: Record<string, unknown> = {}): Header => ({
  t: "prove",
  lease: "l1",
  task: "t1",
  job: "j1",
  deadline_ms: 60_000,
  rows: 20,
  cols: 12,
  p: { dtype: "int8", k: 7, a: { d: D, o: 100, l: 140, r: 20, c: 7 }, b: { d: D, o: 0, l: 84, r: 12, c: 7 } },
  circuit: "v2-8x8x8",
  version: "v1",
  vk: bytes(1),
  zkey: { d: D, l: 1000, u: 3000 },
  r1cs: { d: "cd".repeat(32), l: 10, u: 30 },
  root: bytes(2),
  nonce: bytes(3),
  of: 6,
  tiles: [0, 3, 5],
  ...change,
});

const p = (change: Record<string, unknown>): Record<string, unknown> => ({ ...(frame().p as object), ...change });
const operand = (change: object): Record<string, unknown> => ({ d: D, o: 0, l: 140, r: 20, c: 7, ...change });
const file = (change: object): Record<string, unknown> => ({ d: D, l: 1000, u: 3000, ...change });

describe("a prove frame", () => {
  it("is read, and keeps nothing of the frame's bytes", () => {
    const nonce = bytes(3);
    const asked = askedOf(frame({ nonce }));
    expect(asked).toMatchObject({ lease: "l1", task: "t1", version: "v1", k: 7, tiles: [0, 3, 5], deadlineMs: 60_000 });
    expect(asked.circuit).toEqual({ name: "v2-8x8x8", m: 8, k: 8, n: 8 });
    expect(asked.zkey).toEqual({ digest: D, bytes: 1000, unpacked: 3000 });
    nonce.fill(9);
    expect(asked.nonce).toEqual(bytes(3));
  });

  it("names the slices of its tiles", () => {
    const asked = askedOf(frame());
    // Tile 5 has rows 16 … 20 and columns 8 … 12.
    expect(operandsOf(asked, asked.grid.tile(5))).toEqual([
      { d: D, o: 100 + 16 * 7, l: 4 * 7, r: 4, c: 7 },
      { d: D, o: 8 * 7, l: 4 * 7, r: 4, c: 7 },
    ]);
  });

  it.each<[string, Record<string, unknown>]>([
    ["other products", { p: p({ dtype: "float32" }) }],
    ["no parameters", { p: null }],
    ["a longer k than the circuit's", { p: p({ k: 9 }) }],
    ["no k", { p: p({ k: 0 }) }],
    ["an operand with other rows", { p: p({ a: operand({ r: 21 }) }) }],
    ["an operand without a digest", { p: p({ a: operand({ d: D.toUpperCase() }) }) }],
    ["an operand before its blob", { p: p({ a: operand({ o: -1 }) }) }],
    ["no circuit", { circuit: "v2-7x8x8" }],
    ["another number of tiles", { of: 5 }],
    ["no rows", { rows: 0 }],
    ["half rows", { rows: 19.5 }],
    ["no tile", { tiles: [] }],
    ["a tile that is none", { tiles: [0, 6] }],
    ["a tile below 0", { tiles: [-1] }],
    ["a tile twice", { tiles: [3, 3] }],
    ["falling tiles", { tiles: [3, 0] }],
    ["tiles that are no list", { tiles: { 0: 0 } }],
    ["no lease", { lease: "" }],
    ["a lease that is no text", { lease: 5 }],
    ["no task", { task: undefined }],
    ["no version", { version: "" }],
    ["no deadline", { deadline_ms: undefined }],
    ["a short vk", { vk: bytes(1, 31) }],
    ["a long root", { root: bytes(1, 33) }],
    ["a nonce in hex", { nonce: D }],
    ["no key", { zkey: undefined }],
    ["a key without bytes", { zkey: file({ l: 0 }) }],
    ["too large a key", { zkey: file({ l: 512 * 2 ** 20 + 1 }) }],
    ["too large a key unpacked", { zkey: file({ u: 2 ** 30 + 1 }) }],
    ["a circuit without a digest", { r1cs: file({ d: 7 }) }],
  ])("with %s is refused", (_, change) => expect(() => askedOf(frame(change))).toThrow(FrameError));

  it.each<[string, Record<string, unknown>]>([
    ["the longest k", { p: p({ k: 8 }) }],
    ["the largest files", { zkey: file({ l: 512 * 2 ** 20, u: 2 ** 30 }) }],
    ["all tiles", { tiles: [0, 1, 2, 3, 4, 5] }],
  ])("with %s is taken", (_, change) => expect(askedOf(frame(change)).lease).toBe("l1"));

  it("asks for 64 tiles at most", () => {
    const wide = { rows: 8 * 65, p: p({ a: operand({ r: 8 * 65 }), b: operand({ r: 8 }) }), cols: 8, of: 65 };
    const tiles = Array.from({ length: 65 }, (_, at) => at);
    expect(askedOf(frame({ ...wide, tiles: tiles.slice(0, 64) })).tiles).toHaveLength(64);
    expect(() => askedOf(frame({ ...wide, tiles }))).toThrow(FrameError);
  });
});

describe("the desk", () => {
  let sent: { header: Header; segments: readonly Uint8Array[] }[];
  let online: boolean;
  let begun: string[];
  let told: (Shown | null)[];
  let made: number;
  let ends: Map<string, { proved(fill: number): void; failed(error: unknown): void }>;
  let opened: number;
  let closed: number;
  let stop: AbortController;

  /** Proofs that end when a test says so. */
  const maker: Maker = {
    prove: (asked: Asked) => {
      begun.push(asked.lease);
      return new Promise((resolve, reject) => {
        const proved = (fill: number): void => resolve({ bytes: new Uint8Array(256).fill(fill), ms: 5 });
        ends.set(asked.lease, { proved, failed: reject });
      });
    },
    close: () => void (closed += 1),
  };

  const desk = (open: (() => Promise<Maker>) | null = () => Promise.resolve((opened++, maker))): ProofDesk =>
    new ProofDesk(
      open,
      { open: () => online, send: (header, segments = []) => void sent.push({ header, segments }) },
      { shown: (proof) => void told.push(proof), made: (count) => void (made += count), failed: () => undefined },
      stop.signal,
    );
  /** All that is due has happened. */
  const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));
  const frames = (): string[] =>
    sent.map(({ header, segments }) =>
      header.t === "proof"
        ? `${String(header.lease)} ${segments[header.s as number]?.[0]}`
        : `${String(header.lease)} ${String(header.code)}`,
    );

  beforeEach(() => {
    [sent, online, begun, told, made, ends, opened, closed] = [[], true, [], [], 0, new Map(), 0, 0];
    stop = new AbortController();
  });

  it("makes one proof at a time, in order, and each but once", async () => {
    const at = desk();
    for (const lease of ["1", "2", "1", "2", "3"]) at.asked(frame({ lease }));
    await settled();
    at.asked(frame({ lease: "1" }));
    expect(begun).toEqual(["1"]);
    ends.get("1")?.proved(11);
    await settled();
    expect(begun).toEqual(["1", "2"]);
    ends.get("2")?.proved(12);
    await settled();
    ends.get("3")?.proved(13);
    await settled();
    expect(frames()).toEqual(["1 11", "2 12", "3 13"]);
    expect(sent[0]?.header).toEqual({ t: "proof", lease: "1", s: 0, ms: 5, backend: "wasm" });
    expect([opened, made, told.at(-1)]).toEqual([1, 9, null]);
  });

  it("sends again what was made when it is asked again, until it is acknowledged", async () => {
    const at = desk();
    at.asked(frame({ lease: "1" }));
    await settled();
    online = false;
    ends.get("1")?.proved(11);
    await settled();
    expect(frames()).toEqual([]);
    online = true;
    at.resume();
    expect(frames()).toEqual([]);
    at.asked(frame({ lease: "1" }));
    at.asked(frame({ lease: "1" }));
    expect(frames()).toEqual(["1 11", "1 11"]);
    at.acked("1");
    at.asked(frame({ lease: "1" }));
    await settled();
    expect(begun).toEqual(["1", "1"]);
  });

  it("keeps what was made of 64 leases, and makes anew what it let go", async () => {
    const at = desk();
    for (let n = 0; n < 65; n++) {
      at.asked(frame({ lease: `${n}` }));
      await settled();
      ends.get(`${n}`)?.proved(n);
      await settled();
    }
    at.asked(frame({ lease: "1" }));
    expect(frames().at(-1)).toBe("1 1");
    at.asked(frame({ lease: "0" }));
    await settled();
    expect(begun).toHaveLength(66);
  });

  it("gives back what can't be proved, in a session, and goes on", async () => {
    const at = desk();
    for (const lease of ["1", "2", "3"]) at.asked(frame({ lease }));
    await settled();
    ends.get("1")?.failed(new WorkError("oom", "no memory"));
    await settled();
    online = false;
    ends.get("2")?.failed(new Error("x".repeat(1000)));
    await settled();
    expect(frames()).toEqual(["1 oom"]);
    online = true;
    at.resume();
    at.resume();
    expect(frames()).toEqual(["1 oom", "2 internal"]);
    expect((sent[1]?.header.message as string).length).toBe(400);
    expect(begun).toEqual(["1", "2", "3"]);
  });

  it("leaves what is too late or cancelled, and not what is asked for again", async () => {
    const at = desk();
    at.asked(frame({ lease: "1" }));
    for (const lease of ["late", "again", "cancelled"]) at.asked(frame({ lease, deadline_ms: 0 }));
    at.asked(frame({ lease: "last" }));
    at.asked(frame({ lease: "again" }));
    at.cancel(["cancelled", "1", "never heard of"]);
    await settled();
    for (const lease of ["1", "again", "last"]) {
      ends.get(lease)?.proved(1);
      await settled();
    }
    expect(begun).toEqual(["1", "again", "last"]);
  });

  it("lets no more wait than there may be leases", async () => {
    const at = desk();
    at.asked(frame({ lease: "first" }));
    await settled();
    for (let n = 0; n < 4097; n++) at.asked(frame({ lease: `${n}` }));
    expect(frames()).toEqual(["4096 internal"]);
    at.asked(frame({ lease: "4095" }));
    expect(sent).toHaveLength(1);
  });

  it("answers that it proves nothing where it can't", () => {
    const at = desk(null);
    at.asked(frame());
    expect(frames()).toEqual(["l1 unsupported"]);
    expect(() => at.asked(frame({ of: 1 }))).toThrow(FrameError);
  });

  it("loads the prover anew after that failed", async () => {
    let tries = 0;
    const at = desk(() => (++tries === 1 ? Promise.reject(new Error("offline")) : Promise.resolve(maker)));
    at.asked(frame({ lease: "1" }));
    await settled();
    expect(frames()).toEqual(["1 fetch"]);
    at.asked(frame({ lease: "2" }));
    await settled();
    expect(begun).toEqual(["2"]);
  });

  it("says nothing after a stop, and ends the prover", async () => {
    const at = desk();
    for (const lease of ["1", "2"]) at.asked(frame({ lease }));
    await settled();
    stop.abort();
    ends.get("1")?.failed(new Error("stopped"));
    await settled();
    expect([frames(), begun, closed, told.at(-1)]).toEqual([[], ["1"], 1, null]);
  });

  it("waits for a session to fetch in", async () => {
    const at = desk();
    await at.session();
    online = false;
    let done = 0;
    const waits = [at.session(), at.session()].map((wait) => wait.then(() => (done += 1)));
    await settled();
    expect(done).toBe(0);
    at.resume();
    await Promise.all(waits);
    const last = at.session();
    stop.abort();
    await last;
  });
});

it("a proof travels as 256 bytes", () => {
  const number = (n: number): string => BigInt(`0x${toHex(new Uint8Array(31).fill(n))}`).toString();
  const wire = wireOf({
    pi_a: [number(1), number(2), "1"],
    pi_b: [[number(3), number(4)], [number(5), number(6)], ["1", "0"]],
    pi_c: [number(7), number(8), "1"],
    protocol: "groth16",
    curve: "bn128",
  });
  expect(toHex(wire)).toBe([1, 2, 3, 4, 5, 6, 7, 8].map((n) => `00${`0${n}`.repeat(31)}`).join(""));
  expect(wire).toEqual(fromHex(toHex(wire)));
});

describe("words for proofs", () => {
  const proof = { text: "proving tile 2 of 4: summing up", part: 0.4 };

  it("say what is proved, whatever else is done", () => {
    const shown = { text: "Proving tile 2 of 4: summing up…", part: 0.4 };
    expect(displayOf({ ...NEW_STATUS, state: "waiting", proof })).toMatchObject({
      state: "Proving results",
      mood: "computing",
      proof: shown,
    });
    expect(displayOf({ ...NEW_STATUS, state: "computing", proof })).toMatchObject({ state: "Computing", proof: shown });
    const waiting = { state: "Joined, waiting for work", proof: null };
    expect(displayOf({ ...NEW_STATUS, state: "waiting" })).toMatchObject(waiting);
  });

  it("count them", () => {
    expect(displayOf({ ...NEW_STATUS, proofsMade: 1234 }).details).toContainEqual(["Proofs made", "1,234"]);
    expect(displayOf(NEW_STATUS).details.map(([term]) => term)).not.toContain("Proofs made");
  });
});
