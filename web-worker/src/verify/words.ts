/** What was found, in words for people: the same facts as `shardy verify` gives. Pure. */
import type { Checked, Compared } from "./messages.ts";
import { basisOf, CLAIMS } from "./statements.ts";

export type Mood = "good" | "bad" | "open";
export type Verdict = { mood: Mood; title: string; text: string; warning: string };

const PROBLEMS_SHOWN = 20;

/** keys: whether the person has named a key of the mesh. */
export function verdictOf(report: Checked, keys: boolean): Verdict {
  const warning = report.development
    ? "Its proofs are under a development key: anybody can forge these. Only the signatures count."
    : "";
  if (report.problems.length > 0) {
    return {
      mood: "bad",
      title: "NOT VERIFIED",
      text: "This receipt is not what a mesh that you trust vouched for.",
      warning: "",
    };
  }
  if (!keys) {
    return {
      mood: "open",
      title: "NOT VERIFIED: nobody has vouched for it",
      text:
        `It is whole, but whose key ${report.key} is, nobody has said, and anybody can make a key. ` +
        "Give the mesh's key.",
      warning,
    };
  }
  return { mood: "good", title: "VERIFIED", text: "It is whole, and signed by a mesh key that you trust.", warning };
}

const counted = (n: number | bigint, one: string, many: string): string =>
  `${n.toLocaleString("en")} ${BigInt(n) === 1n ? one : many}`;

export function factsOf(report: Checked): [term: string, text: string][] {
  const methods = [...report.methods].sort().map(([name, n]) => `${n.toLocaleString("en")} by ${name}`);
  const development = report.development ? ", under a DEVELOPMENT key: anybody can forge those" : "";
  const facts: [string, string][] = [
    [report.type === "task" ? "Task of job" : "Job", report.job],
    ["Mesh", report.mesh],
    ["Tasks", report.tasks > 0 ? `${report.tasks.toLocaleString("en")}: ${methods.join(", ")}` : ""],
    ["Workers", report.workers > 0 ? report.workers.toLocaleString("en") : ""],
    [
      "Answers",
      report.workers > 0
        ? `${report.signed.toLocaleString("en")} signed by their workers, ${report.unsigned.toLocaleString("en")} not`
        : "",
    ],
    ["Proofs", report.proofs > 0 ? `${report.proofs.toLocaleString("en")} hold${development}` : ""],
    ["Operations", report.ops > 0n ? report.ops.toLocaleString("en") : ""],
    ["Signed by", report.key],
  ];
  return facts.filter(([, text]) => text !== "");
}

/** What a verdict by each of the methods claims, and what it does not. */
export function claimsOf(report: Checked): [method: string, claimed: string, notClaimed: string][] {
  if (report.problems.length > 0) return [];
  return [...report.methods].sort().flatMap(([method]) => {
    // An arbitration is by agreement or by audit, as its rounds say; the others' rounds follow from the method.
    const basis = method === "arbitration" ? null : basisOf(method, method === "audit" ? 1 : 0);
    return basis === null ? [] : [[method, ...CLAIMS[basis]]];
  });
}

export function comparedOf(report: Compared): { mood: Mood; text: string } {
  if (report.problems.length > 0) return { mood: "bad", text: "These are not the arrays that the receipt is about." };
  const operands = report.operands.map((name) => name.toUpperCase()).join(" and ");
  const parts = [
    operands === "" ? "" : `${operands} as in the receipt`,
    report.tiles > 0 ? `${counted(report.tiles, "tile", "tiles")} of the result equal` : "",
    report.proofs > 0 ? `${counted(report.proofs, "proof is", "proofs are")} about these very numbers` : "",
  ];
  return { mood: "good", text: `The same: ${parts.filter((part) => part !== "").join(", ")}.` };
}

/** At most so many that a person reads on. */
export function shown(problems: readonly string[]): string[] {
  const more = problems.length - PROBLEMS_SHOWN;
  return more > 0 ? [...problems.slice(0, PROBLEMS_SHOWN), `and ${more} more`] : [...problems];
}

const HEX64 = /^[0-9a-f]{64}$/;

/** The keys in what a person typed: null for none. What is no key is named. */
export function keysIn(text: string): { keys: string[] | null; wrong: string | null } {
  const keys = text.toLowerCase().split(/[\s,]+/).filter((word) => word !== "");
  const wrong = keys.find((word) => !HEX64.test(word)) ?? null;
  return { keys: keys.length > 0 && wrong === null ? keys : null, wrong };
}
