/**
 * The proofs in a receipt: what they state, the public signals that follow, and whether they hold (docs/proofs.md).
 * Keys come with the receipt, under their BLAKE3; no operand is needed.
 */
import { rootOf } from "../core/merkle.ts";
import { hex } from "../engine/engine.ts";
import { ProveError, type ProverModule } from "../prove/module.ts";
import { type Circuit, circuitNamed, outLen, P, taskContext } from "../prove/signals.ts";
import { challenge, Grid, leafOfDigest, tileField } from "../prove/tiles.ts";
import { fromHex, joined, peerKey, utf8 } from "./bytes.ts";
import { type Host, hashOf } from "./host.ts";
import { FormError, isMap, type JsonMap } from "./json.ts";
import type { Credited, Proved, ProvedTile, TaskStatement } from "./statements.ts";
import { readKey, type VerificationKey, wireOf } from "./vkey.ts";

const KEYS_MAX = 256;
/** Public signals of a product's proof. */
const SIGNALS = 4;

/** handle: null where the module refuses its points. */
type Known = VerificationKey & { handle: number | null };

export class ProofChecker {
  readonly #known = new Map<string, Known>();
  #module: ProverModule | null = null;

  /** texts: keys as the receipt brings them, by hash. */
  constructor(
    readonly host: Host,
    readonly texts: ReadonlyMap<string, string>,
  ) {}

  /** What is wrong with the proofs of a task's statement; its other fields are checked elsewhere. */
  async problems(task: TaskStatement, proved: Proved): Promise<string[]> {
    if (task.kind !== "matmul" || task.pre !== null) return ["only products of int8 matrices are proved"];
    const credited = task.workers.find((entry) => entry.lease === proved.lease);
    if (credited === undefined) return [`lease ${proved.lease}, whose result was proved, is none of those credited`];
    let key: Known;
    let circuit: Circuit;
    let grid: Grid;
    let asked: number[];
    try {
      key = await this.#key(proved.vk_hash);
      circuit = circuitNamed(proved.circuit);
      grid = gridOf(circuit, task);
      asked = this.#drawn(task, proved);
    } catch (error) {
      if (error instanceof FormError || error instanceof RangeError) return [error.message];
      throw error;
    }
    if (grid.count !== proved.tiles) {
      return [`${proved.tiles} tiles, where circuit ${proved.circuit} makes ${grid.count} of this result`];
    }
    if (proved.proofs.length !== asked.length || proved.proofs.some((tile, at) => tile.index !== asked[at])) {
      return ["it does not prove just the tiles that were drawn"];
    }
    const k = task.operands.get("a")?.cols ?? 0;
    if (k > circuit.k) return [`circuit ${circuit.name} has no room for an inner length of ${k}`];
    const problems = this.#unbound(task, proved, grid);
    const isOther = ({ index, ...tile }: ProvedTile): boolean => {
      const { rows, cols } = grid.tile(index);
      return tile.rows !== rows || tile.k !== k || tile.cols !== cols;
    };
    const held = await this.#hold(task, proved, credited, key);
    proved.proofs.forEach((tile, at) => {
      const { index, rows, cols } = tile;
      if (isOther(tile)) problems.push(`tile ${index} is ${rows}×${tile.k}×${cols}: there is none like this`);
      else if (held[at] !== true) problems.push(`the proof of tile ${index} does not hold`);
    });
    return problems;
  }

  /** Whether a key that `problems` has met says that its randomness is known. */
  development = (vkHash: string): boolean => this.#known.get(vkHash)?.development ?? false;

  /** Let go of the keys: the module is used again. */
  close(): void {
    for (const { handle } of this.#known.values()) {
      if (handle !== null) this.#module?.dropKey(handle);
    }
    this.#known.clear();
  }

  async #key(vkHash: string): Promise<Known> {
    const known = this.#known.get(vkHash);
    if (known !== undefined) return known;
    const text = this.texts.get(vkHash);
    if (text === undefined || hex(this.host.engine.hashBytes(utf8.encode(text))) !== vkHash) {
      throw new FormError(`the receipt does not bring the verification key ${vkHash}`);
    }
    const read = readKey(text);
    this.#module ??= await this.host.proofs();
    const found = { ...read, handle: read.publics === SIGNALS ? handleOf(this.#module, read.wire) : null };
    this.#known.set(vkHash, found);
    return found;
  }

  #drawn(task: TaskStatement, proved: Proved): number[] {
    const binding = joined(utf8.encode(proved.lease), new Uint8Array(1), fromHex(task.result.digest));
    const [root, nonce] = [fromHex(proved.root), fromHex(proved.nonce)];
    return challenge(this.host.engine, root, binding, nonce, proved.tiles, proved.checked);
  }

  /** Digests of tiles that are not those of what the receipt is about, as far as it holds what they follow from. */
  #unbound(task: TaskStatement, proved: Proved, grid: Grid): string[] {
    const problems: string[] = [];
    const hash = hashOf(this.host);
    for (const tile of proved.proofs) {
      for (const [name, rows] of [["a", tile.rows], ["b", tile.cols]] as const) {
        const whole = task.operands.get(name);
        if (whole?.rows === rows && whole.digest !== tile[name]) {
          problems.push(`tile ${tile.index} is of another operand ${name}`);
        }
      }
    }
    if (proved.proofs.length < grid.count) return problems;
    const leaves = proved.proofs.map(({ index, rows, cols, c }) => {
      return leafOfDigest(hash, index, outLen(rows, cols), fromHex(c));
    });
    if (hex(rootOf(hash, leaves)) !== proved.root) problems.push("the root is not that of the tiles");
    if (grid.count === 1 && proved.proofs[0]?.c !== task.result.digest) problems.push("the tile is not the result");
    return problems;
  }

  async #hold(task: TaskStatement, proved: Proved, credited: Credited, key: Known): Promise<boolean[]> {
    const none = proved.proofs.map(() => false);
    if (key.handle === null || this.#module === null) return none;
    const claims: { at: number; proof: Uint8Array; publics: bigint[] }[] = [];
    for (const [at, tile] of proved.proofs.entries()) {
      const publics = await publicsOf(task, proved, credited, tile);
      if (publics !== null) claims.push({ at, proof: fromHex(tile.proof), publics });
    }
    const proofs = joined(...claims.map(({ proof }) => proof));
    const signals = joined(...claims.map(({ publics }) => wireOf(publics)));
    const held = claims.length === 0 ? [] : this.#module.hold(key.handle, proofs, signals, SIGNALS);
    claims.forEach(({ at }, index) => (none[at] = held[index] === true));
    return none;
  }
}

function handleOf(module: ProverModule, wire: Uint8Array): number | null {
  try {
    return module.addKey(wire);
  } catch (error) {
    if (error instanceof ProveError && !error.instanceLost) return null;
    throw error;
  }
}

/** The tiles of a task's result that a circuit proves. */
export function gridOf(circuit: Circuit, task: TaskStatement): Grid {
  const [, rows = 0, , cols = 0] = task.tile;
  return new Grid(rows, cols, Math.min(circuit.m, rows), Math.min(circuit.n, cols));
}

/** The four public signals of what is stated; null where they are none. */
async function publicsOf(
  task: TaskStatement,
  proved: Proved,
  credited: Credited,
  tile: ProvedTile,
): Promise<bigint[] | null> {
  const commits = [BigInt(tile.input_commit), BigInt(tile.result_digest)];
  const worker = peerKey(credited.worker);
  if (worker === null || commits.some((commit) => commit >= P)) return null;
  const { index, rows, k, cols } = tile;
  const context = await taskContext({
    task: task.task,
    worker,
    nonce: fromHex(proved.nonce),
    circuit: proved.circuit,
    vkVersion: proved.version,
    vkHash: fromHex(proved.vk_hash),
    rows,
    k,
    cols,
    seed: new Uint8Array(0),
    a: fromHex(tile.a),
    b: fromHex(tile.b),
    c: fromHex(tile.c),
    tile: proved.tiles > 1 ? tileField(fromHex(proved.root), index) : new Uint8Array(0),
  });
  return [context, BigInt(outLen(rows, cols)), ...commits];
}

/** The verification keys that a receipt brings: canonical text by hash. */
export function keysOf(document: JsonMap): Map<string, string> {
  const keys = "keys" in document ? document.keys : {};
  const texts = isMap(keys) ? Object.entries(keys) : [];
  const areTexts = texts.every((entry): entry is [string, string] => typeof entry[1] === "string");
  if (!isMap(keys) || texts.length > KEYS_MAX || !areTexts) {
    throw new FormError(`keys is a map from hashes to texts of verification keys, ${KEYS_MAX} at most`);
  }
  return new Map(texts);
}

