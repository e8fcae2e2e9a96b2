/** What was found about a receipt: the same facts as `Report` of libs/shardy_common/receipts/checking.py. */

const PROBLEMS_MAX = 100;

export class Report {
  readonly problems: string[] = [];
  /** The signing key is one that the caller trusts; without it, no problem means only that its holder said all this. */
  vouched = false;
  type: "" | "task" | "job" = "";
  mesh = "";
  job = "";
  key = "";
  tasks = 0;
  /** Verified operations, counted once. */
  ops = 0n;
  /** Credited tasks by worker. */
  readonly workers = new Map<string, number>();
  readonly methods = new Map<string, number>();
  /** Answers credited with and without the worker's own signature. */
  signed = 0;
  unsigned = 0;
  /** Proofs that hold. */
  proofs = 0;
  /** Some of them are under a development key, where anybody can forge them. */
  development = false;

  get ok(): boolean {
    return this.problems.length === 0;
  }

  problem(text: string): void {
    if (this.problems.length < PROBLEMS_MAX) this.problems.push(text);
  }
}

export function count(counts: Map<string, number>, name: string): void {
  counts.set(name, (counts.get(name) ?? 0) + 1);
}
