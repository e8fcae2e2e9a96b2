import { describe, expect, it } from "vitest";
import type { Checked } from "../../src/verify/messages.ts";
import { lacking } from "../../src/verify/ed25519.ts";
import { claimsOf, comparedOf, factsOf, keysIn, shown, verdictOf } from "../../src/verify/words.ts";

const KEY = "ab".repeat(32);
const GOOD: Checked = {
  problems: [],
  vouched: true,
  type: "job",
  mesh: "shardy",
  job: "j1",
  key: KEY,
  tasks: 1200,
  ops: 10n ** 18n,
  workers: 3,
  methods: [
    ["quorum", 1000],
    ["audit", 200],
  ],
  signed: 2200,
  unsigned: 0,
  proofs: 0,
  development: false,
};

describe("what is said of a receipt", () => {
  it("is VERIFIED only with a key, and without a problem", () => {
    expect(verdictOf(GOOD, true)).toMatchObject({ mood: "good", title: "VERIFIED" });
    expect(verdictOf(GOOD, false).title).toMatch(/^NOT VERIFIED: nobody/);
    expect(verdictOf(GOOD, false).mood).toBe("open");
    for (const keys of [true, false]) {
      expect(verdictOf({ ...GOOD, problems: ["x"] }, keys)).toMatchObject({ mood: "bad", title: "NOT VERIFIED" });
    }
  });

  it("warns of development keys", () => {
    const proved = { ...GOOD, proofs: 4, development: true };
    expect(verdictOf(proved, true).warning).toContain("anybody can forge");
    expect(verdictOf(GOOD, true).warning).toBe("");
    expect(new Map(factsOf(proved)).get("Proofs")).toBe("4 hold, under a DEVELOPMENT key: anybody can forge those");
  });

  it("is what the command line says, too", () => {
    const facts = new Map(factsOf(GOOD));
    expect(facts.get("Tasks")).toBe("1,200: 200 by audit, 1,000 by quorum");
    expect(facts.get("Answers")).toBe("2,200 signed by their workers, 0 not");
    expect(facts.get("Operations")).toBe("1,000,000,000,000,000,000");
    expect(facts.get("Signed by")).toBe(KEY);
    expect(facts.has("Proofs")).toBe(false);
  });

  it("says what each method is worth, unless something is wrong", () => {
    expect(claimsOf(GOOD).map(([method]) => method)).toEqual(["audit", "quorum"]);
    expect(claimsOf({ ...GOOD, problems: ["x"] })).toEqual([]);
    expect(claimsOf({ ...GOOD, methods: [["arbitration", 1], ["unheard of", 1]] })).toEqual([]);
  });

  it("names at most twenty problems", () => {
    expect(shown(["a"])).toEqual(["a"]);
    expect(shown(Array<string>(21).fill("a")).at(-1)).toBe("and 1 more");
  });
});

it("says what was compared", () => {
  const report = { problems: [], tiles: 1, operands: ["a", "b"], proofs: 1 };
  expect(comparedOf(report).text).toBe(
    "The same: A and B as in the receipt, 1 tile of the result equal, 1 proof is about these very numbers.",
  );
  expect(comparedOf({ ...report, problems: ["x"] }).mood).toBe("bad");
});

it("reads keys as they are copied", () => {
  expect(keysIn("")).toEqual({ keys: null, wrong: null });
  expect(keysIn(` ${KEY.toUpperCase()}\n`)).toEqual({ keys: [KEY], wrong: null });
  expect(keysIn(`${KEY}, ${KEY}`).keys).toHaveLength(2);
  expect(keysIn(`${KEY} 12`)).toEqual({ keys: null, wrong: "12" });
});

describe("a browser", () => {
  it("that checks signatures lacks nothing", async () => {
    expect(await lacking(crypto.subtle)).toBeNull();
  });

  it("without Ed25519, or on a page that is not secure, is told what to use", async () => {
    const without = { importKey: () => Promise.reject(new DOMException("no", "NotSupportedError")) };
    expect(await lacking(without as unknown as SubtleCrypto)).toMatch(/Ed25519.*shardy verify/);
    expect(await lacking(undefined)).toMatch(/https.*shardy verify/);
  });

  it("that calls everything right is not believed", async () => {
    const { subtle } = crypto;
    const generous = { importKey: subtle.importKey.bind(subtle), verify: () => Promise.resolve(true) };
    expect(await lacking(generous as unknown as SubtleCrypto)).toMatch(/Ed25519/);
  });
});
