/** The worker's status for a terminal and for programs. Pure but for what it remembers having said. */
import type { Status, Words } from "../core/status.ts";
import { counted, creditOfOps, speed } from "../page/words.ts";

const ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/** Protobuf {type: Ed25519, data: 32 bytes} in an identity multihash: the libp2p peer-id form of an Ed25519 key. */
const PEER_PREFIX = "002408011220";

/** What the mesh calls the worker with this public key (hex): base 58 of the identity multihash. */
export function workerId(key: string): string {
  let n = BigInt(`0x${PEER_PREFIX}${key}`);
  let text = "";
  for (; n > 0n; n /= 58n) text = `${ALPHABET[Number(n % 58n)]}${text}`;
  // The prefix begins with one zero byte.
  return `1${text}`;
}

export const CLI_WORDS: Words = {
  final: {
    4400: "the mesh found a frame malformed: this worker and the mesh disagree on the protocol; update both.",
    4401: "the mesh refused the signature or the probe; another key (--key) or a sound device is needed.",
    4403: "this key is banned after proven fraud.",
    4406: "the mesh speaks no protocol version of this worker; update it.",
    4409: "the same key joined elsewhere; give each worker its own key (--key FILE or --ephemeral).",
    4413: "the mesh found a frame or result too large; update this worker.",
  },
  error: (error) => (error instanceof Error ? error.message : String(error)),
};

const verified = ({ credit }: Status): string =>
  credit === null ? "" : `, ${counted(credit.tasks)} verified ever (credit ${creditOfOps(credit.ops)})`;

const proved = ({ proofsMade }: Status): string => (proofsMade === 0 ? "" : `, ${counted(proofsMade)} proofs made`);

export const summary = (status: Status): string =>
  `${counted(status.tasksDone)} tasks done${proved(status)}${verified(status)}`;

/** Sentences for people, each once. */
export class Story {
  #key: string | null = null;
  #session: string | null = null;
  #backend: string | null = null;
  #message = "";
  #connecting = "";
  #notes: readonly string[] | null = null;
  #figures = "";

  /** `what` is new since the last call; `wrong` marks what is said in any case. */
  news(status: Status): { text: string; wrong: boolean }[] {
    const out: { text: string; wrong: boolean }[] = [];
    const say = (text: string, wrong = false): void => void out.push({ text, wrong });
    if (status.key !== null && status.key !== this.#key) say(`worker ${workerId(status.key)}`);
    this.#key = status.key ?? this.#key;
    const backend = status.backend && `${status.backend} ${status.gops}`;
    const figures = status.backend !== null && status.gops > 0;
    if (backend !== this.#backend && figures) {
      say(`computes on the ${status.backend === "wasm" ? "processor" : "graphics unit"}: ${speed(status.gops)}`);
    }
    this.#backend = backend;
    if (status.notes !== this.#notes && status.notes.length > 0) say(status.notes.at(-1) ?? "", true);
    this.#notes = status.notes;
    if (status.session !== null && status.session !== this.#session) say(`joined as ${status.tier}`);
    this.#session = status.session;
    // Each try says that it connects; a person wants to know why there are several.
    if (status.state === "connecting") this.#connecting = status.message;
    const told = status.message === this.#message || status.message === this.#connecting;
    if (!told && status.state === "reconnecting") say(status.message, true);
    this.#message = status.message;
    return out;
  }

  /** Now and then: how far it is, where that has changed. */
  progress(status: Status): string | null {
    const figures = summary(status);
    if (figures === this.#figures || status.tasksDone === 0) return null;
    this.#figures = figures;
    return figures;
  }
}

/** One line of `--json`. */
export function jsonOf(status: Status): string {
  const { credit } = status;
  return JSON.stringify({
    state: status.state,
    message: status.message,
    worker: status.key === null ? null : workerId(status.key),
    key: status.key,
    tier: status.tier,
    session: status.session,
    backend: status.backend,
    gpu: status.gpu,
    gops: status.gops,
    engine: status.engine,
    tasks_done: status.tasksDone,
    tasks_failed: status.tasksFailed,
    proofs_made: status.proofsMade,
    proof: status.proof,
    verified: credit,
    credit: credit === null ? null : credit.ops / 1e9,
    notes: status.notes,
  });
}
