/** What the operators' page says of versions. */
import { describe, expect, it } from "vitest";
import {
  circuitsOf,
  graceSeconds,
  noteOf,
  revocationWords,
  rotationWords,
  span,
  type Version,
} from "../src/operate/versions.ts";

const NOW = Date.UTC(2026, 0, 31, 9, 5);
const version = (changed: Partial<Version>): Version => ({
  version: "v1",
  circuit: "v2-8x384x8",
  shape: [8, 384, 8],
  status: "registered",
  vk_hash: "ab".repeat(32),
  dev: false,
  registered_by: "k1",
  registered_ms: NOW - 86_400_000,
  active_ms: null,
  grace_until_ms: null,
  revoked_ms: null,
  successor: null,
  why: null,
  files: {},
  ...changed,
});

describe("time", () => {
  it.each([
    [-5, "0 s"],
    [0, "0 s"],
    [1, "1 s"],
    [59_999, "1 min"],
    [305_000, "5 min 5 s"],
    [3_600_000, "1 h"],
    [3_605_000, "1 h"],
    [90_061_000, "1 d 1 h"],
  ])("%d ms: %s", (ms, said) => expect(span(ms)).toBe(said));

  it.each([
    ["90s", 90],
    [" 10m ", 600],
    ["2h", 7_200],
    ["1d", 86_400],
    ["0s", 0],
    ["10", null],
    ["1.5h", null],
    ["-1s", null],
    ["soon", null],
    ["", null],
  ])("%s", (text, seconds) => expect(graceSeconds(text)).toBe(seconds));
});

describe("versions", () => {
  it.each<[Partial<Version>, string]>([
    [{}, "was never active"],
    [{ status: "active", active_ms: NOW - 61_000 }, "for 1 min 1 s"],
    [{ status: "grace", grace_until_ms: NOW + 60_000 }, "still counts for earlier leases, for 1 min"],
    [{ status: "grace", grace_until_ms: NOW - 1 }, "is over"],
    [{ status: "retired" }, "its grace is over"],
    [{ status: "revoked", why: "leaked", successor: "v2" }, "leaked; in its place: v2"],
    [{ status: "revoked", why: "leaked" }, "leaked"],
  ])("%o", (changed, note) => expect(noteOf(version(changed), NOW)).toBe(note));

  it("stand by circuit, the newest first, with what may be done", () => {
    const found = circuitsOf(
      [
        version({ circuit: "z", version: "z1", dev: true, files: null }),
        version({ version: "v1", status: "revoked" }),
        version({ version: "v2", status: "active", active_ms: NOW }),
        version({ version: "v3" }),
      ],
      NOW,
    );
    expect(found.map(({ name, active }) => [name, active])).toEqual([
      ["v2-8x384x8", "v2"],
      ["z", ""],
    ]);
    expect(found[0]?.rows.map((row) => [row.version, row.canRotate, row.canRevoke])).toEqual([
      ["v3", true, true],
      ["v2", false, true],
      ["v1", false, false],
    ]);
    expect(found[1]?.rows[0]).toMatchObject({
      marks: ["development", "no files for workers"],
      registered: "2026-01-30 09:05",
    });
  });

  it("say what a change does before it is done", () => {
    const known = [
      version({ version: "v2", status: "active" }),
      version({ version: "v3" }),
      version({ circuit: "z", version: "z1" }),
    ];
    const [with2, none] = circuitsOf(known, NOW);
    expect(rotationWords(with2!, "v3")).toContain("under v2, counts for as long as you say");
    expect(rotationWords(none!, "z1")).toContain("which has none now");
    expect(revocationWords(with2!, "v2")).toContain("nothing more is proved in this circuit");
    expect(revocationWords(with2!, "v3")).not.toContain("nothing more is proved");
  });
});
