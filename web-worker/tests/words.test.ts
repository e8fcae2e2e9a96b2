import { describe, expect, it } from "vitest";
import { NEW_STATUS } from "../src/core/status.ts";
import { counted, creditOfOps, displayOf } from "../src/page/words.ts";

describe("figures for people", () => {
  it.each([
    [0, "0"],
    [1, "under 0.01"],
    [9_999_999, "under 0.01"],
    [10_000_000, "0.01"],
    [1_000_000_000, "1"],
    [2_345_000_000, "2.35"],
    [12_340_000_000, "12.3"],
    [1_234_567_000_000_000, "1.235 million"],
    [1_234_567_000_000, "1,235"],
    [2 ** 63, "9,223 million"],
  ])("%d operations are a credit of %s", (ops, words) => expect(creditOfOps(ops)).toBe(words));

  it.each([
    [0, "0"],
    [1_234, "1,234"],
    [999_999, "999,999"],
    [1_234_567, "1.235 million"],
  ])("%d tasks", (n, words) => expect(counted(n)).toBe(words));

  it("tell what the mesh verified apart from what was done here", () => {
    expect(displayOf({ ...NEW_STATUS, tasksDone: 9 })).toMatchObject({ done: "9", verified: "–", credit: "–" });
    const credit = { tasks: 1_200, ops: 3_500_000_000 };
    expect(displayOf({ ...NEW_STATUS, tasksDone: 9, credit })).toMatchObject({
      done: "9",
      verified: "1,200",
      credit: "3.5",
    });
  });
});
