/** Who is credited with a task: names, leases, and each worker's own signature over the result. */
import { leafOf } from "../core/merkle.ts";
import { hex } from "../engine/engine.ts";
import { fromHex, joined, peerId, utf8 } from "./bytes.ts";
import { verifies } from "./ed25519.ts";
import { type Host, hashOf } from "./host.ts";
import { count, type Report } from "./report.ts";
import type { Credited, TaskStatement } from "./statements.ts";
import { climb } from "./tree.ts";

const RESULTS_TAG = utf8.encode("shardy-results-v2\0");

/** A frame's signature is checked once for all results in it. */
export class WorkerChecker {
  readonly #good = new Set<string>();

  constructor(
    readonly report: Report,
    readonly host: Host,
  ) {}

  async check(task: TaskStatement, where: string): Promise<void> {
    const { report } = this;
    const { workers } = task;
    for (const name of ["worker", "lease"] as const) {
      if (new Set(workers.map((entry) => entry[name])).size < workers.length) {
        report.problem(`${where}: a ${name} is named twice`);
      }
    }
    const unsigned = workers.filter(({ sig }) => sig === "").map(({ worker }) => worker);
    if (unsigned.join(" ") !== task.unsigned.join(" ")) {
      report.problem(`${where}: unsigned does not name just the workers without a signature`);
    }
    for (const entry of workers) {
      const name = `${where}, worker ${entry.worker}`;
      count(report.workers, entry.worker);
      if (peerId(entry.key) !== entry.worker) report.problem(`${name}: its key is another peer's`);
      const cut = entry.lease.lastIndexOf("-");
      if (entry.lease.slice(0, cut) !== task.task || cut < 0 || !/^[0-9]+$/.test(entry.lease.slice(cut + 1))) {
        report.problem(`${name}: its lease ${entry.lease} is of another task`);
      }
      if (entry.sig === "") {
        report.unsigned += 1;
        if (entry.index !== 0 || entry.count !== 1 || entry.path.length > 0) {
          report.problem(`${name}: a place in a tree without a signature`);
        }
      } else {
        report.signed += 1;
        await this.#signature(task, entry, name);
      }
    }
  }

  async #signature({ result }: TaskStatement, entry: Credited, name: string): Promise<void> {
    const { key, lease, sig, index, count: of, path } = entry;
    const hash = hashOf(this.host);
    const leaf = leafOf(hash, lease, fromHex(result.digest), result.bytes);
    let root: Uint8Array;
    try {
      root = climb(hash, leaf, index, of, path.map(fromHex));
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.report.problem(`${name}: ${error.message}`);
      return;
    }
    const known = `${key} ${sig} ${hex(root)}`;
    if (this.#good.has(known)) return;
    if (await verifies(this.host.subtle, key, sig, joined(RESULTS_TAG, root))) this.#good.add(known);
    else this.report.problem(`${name}: its signature is not over this result`);
  }
}
