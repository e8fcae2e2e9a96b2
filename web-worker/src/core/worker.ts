/**
 * The worker: prepares engine and GPU, joins a mesh, works, reconnects, leaves. No DOM: everything that belongs to a
 * page (keys, visibility, the adapter) is handed in, so that other hosts can run it.
 */
import { Engine, hex } from "../engine/engine.ts";
import { Compute } from "./compute.ts";
import type { UploadTarget } from "./deliver.ts";
import { type Frame, FrameError } from "./frame.ts";
import { Graphics } from "./graphics.ts";
import { type Identity, identityFrom, type KeyStore, resultsMessage, sign } from "./identity.ts";
import type { Tools } from "./kinds.ts";
import { type Multiply, measure, probeMemory } from "./measure.ts";
import { type BlobSource, OperandStore } from "./operands.ts";
import { probeDigest } from "./probe.ts";
import { type Maker, ProofDesk, type Proves } from "./proofs.ts";
import { type Closed, type ProbeRequest, Session, type Tier } from "./session.ts";
import { creditOf, type Ending, NEW_STATUS, PAGE_WORDS, type Settings, type Status, type Words } from "./status.ts";
import { backoffMs, sleep } from "./timing.ts";
import { Work } from "./work.ts";

export type Host = {
  keys: KeyStore;
  subtle: SubtleCrypto;
  gpu: GPU | undefined;
  engineBytes: BufferSource;
  fetch: typeof fetch;
  Socket: typeof WebSocket;
  /** Without it this device proves nothing. */
  proves?: Proves;
  /** Without them, those of the page. */
  words?: Words;
  changed(status: Status): void;
};

const NOTES_MAX = 12;
const STEADY_MS = 30_000;

export class MeshWorker {
  readonly status: Status = { ...NEW_STATUS };
  visible = true;
  throttled = false;
  readonly #stopping = new AbortController();
  #session: Session | null = null;
  #work: Work | null = null;
  #proofs: ProofDesk | null = null;
  #compute: Compute | null = null;
  #token = "";
  #fault: Ending | null = null;

  constructor(
    readonly settings: Settings,
    readonly host: Host,
  ) {}

  /** Runs until stopped or refused for good; never throws. */
  async run(): Promise<Ending> {
    const ending = await this.#untilTheEnd();
    // Nothing is proved for a mesh that is left.
    this.#stopping.abort();
    if (ending.why === "stopped") this.#set({ state: "stopped", work: null, proof: null });
    else this.#set({ state: "failed", message: ending.message, work: null, proof: null });
    return ending;
  }

  async #untilTheEnd(): Promise<Ending> {
    try {
      const { engine, compute, identity } = await this.#prepare();
      const ending = await this.#stayJoined(engine, compute, identity);
      return this.#fault ?? ending;
    } catch (error) {
      return { why: "failed", message: this.#words.error(error) };
    }
  }

  get #words(): Words {
    return this.host.words ?? PAGE_WORDS;
  }

  /** Gives back all leases and disconnects; work in progress ends at its next stretch. */
  stop(): void {
    this.#session?.send({ t: "leave" });
    this.#stopping.abort();
    this.#work?.drop();
    this.#session?.close();
    this.#set({ state: "stopped", message: "Stopped. Nothing runs any more.", work: null, proof: null });
  }

  async #prepare(): Promise<{ engine: Engine; compute: Compute; identity: Identity }> {
    const { host, settings } = this;
    this.#set({ state: "preparing", message: "Loading the engine and testing this device…" });
    const engine = await Engine.load(host.engineBytes);
    const bytes = host.engineBytes;
    const raw = ArrayBuffer.isView(bytes)
      ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
      : new Uint8Array(bytes);
    const identity = await identityFrom(host.keys, host.subtle);
    this.#set({ engine: hex(engine.hashBytes(raw)), key: hex(identity.publicKey) });
    const source = { base: settings.mesh, token: () => this.#token, fetch: host.fetch };
    const cacheBytes = (settings.memoryMib * 1024 * 1024) / 2;
    const store = new OperandStore(engine, cacheBytes, source, (key) => compute.gpu?.forget(key));
    const compute: Compute = new Compute(engine, store, settings.backend, this.#stopping.signal, (message, final) => {
      this.#note(`A result of the graphics unit was discarded: ${message}.`);
      if (final) this.#note("The graphics unit failed repeatedly and is not used any more.");
      if (final) this.#showBackend();
    });
    this.#compute = compute;
    const onEngine: Multiply = (a, b, k, out) => engine.matmul(a.ptr, b.ptr, out, a.rows, b.rows, k);
    const wasm = await measure(engine, onEngine, 128);
    compute.wasmGops = wasm.gops;
    this.#set({ wasmRate: wasm });
    const graphics = new Graphics(engine, compute, this.#stopping.signal, host.gpu, settings.kernel, {
      note: (text) => this.#note(text),
      set: (change) => this.#set(change),
    });
    if (settings.backend !== "wasm") await graphics.open();
    this.#showBackend();
    const tools = { engine, store, compute, stopping: this.#stopping.signal };
    this.#work = this.#newWork(tools, source, identity);
    this.#proofs = this.#newProofs(tools, source, identity);
    return { engine, compute, identity };
  }

  #newWork(tools: Tools, target: UploadTarget, identity: Identity): Work {
    return new Work(
      tools,
      target,
      {
        open: () => this.#session?.joined === true,
        mayStartFrame: () => this.#session?.maySend() ?? true,
        sign: (root) => sign(identity, resultsMessage(root), this.host.subtle),
        send: (frame) => void this.#session?.sendBytes(frame),
        failed: (lease, code, message) =>
          void this.#session?.send({ t: "failed", lease, code, message: message.slice(0, 400) }),
        broken: (error) => this.#fail(error),
      },
      {
        started: (_lease, title) => this.#set({ state: "computing", work: title }),
        finished: ({ backend, digest }) => {
          this.status.tasksDone += 1;
          const doneBy = { ...this.status.doneBy, [backend]: (this.status.doneBy[backend] ?? 0) + 1 };
          this.#set({ lastDigest: hex(digest), doneBy });
        },
        failed: (_lease, error) => {
          this.status.tasksFailed += 1;
          this.#note(`A task was given back (${error.code}): ${error.message}`);
        },
        idle: () => this.#session?.joined === true && this.#set({ state: "waiting", work: null }),
      },
    );
  }

  #newProofs(tools: Tools, source: BlobSource, identity: Identity): ProofDesk {
    const { proves, engineBytes } = this.host;
    const open = async ({ store, host, instances }: Proves): Promise<Maker> => {
      const { Proving } = await import("./proving.ts");
      const memoryBytes = this.#provesMib(this.settings.memoryMib) * 1024 * 1024;
      const session = (): Promise<void> => desk.session();
      const shown = (proof: Status["proof"]): void => this.#set({ proof });
      const needs = { tools, source, engineBytes, worker: identity.publicKey, memoryBytes, session, shown };
      return new Proving({ ...needs, host: await host(), store, instances });
    };
    const desk: ProofDesk = new ProofDesk(
      proves === undefined ? null : () => open(proves),
      {
        open: () => this.#session?.joined === true,
        send: (header, segments) => void this.#session?.send(header, segments),
      },
      {
        shown: (proof) => this.#set({ proof }),
        made: (count) => this.#set({ proofsMade: this.status.proofsMade + count }),
        failed: (_asked, error) => this.#note(`A proof was not made (${error.code}): ${error.message}`),
      },
      this.#stopping.signal,
    );
    return desk;
  }

  /** Half of the memory: the other half is for operands. */
  #provesMib(memoryMib: number): number {
    return this.host.proves === undefined ? 0 : Math.floor(memoryMib / 2);
  }

  async #stayJoined(engine: Engine, compute: Compute, identity: Identity): Promise<Ending> {
    const url = `${this.settings.mesh.replace(/^http/, "ws")}/ws/worker-join`;
    let attempt = 0;
    let unanswered = 0;
    while (!this.#stopping.signal.aborted) {
      this.#set({ state: attempt === 0 ? "connecting" : "reconnecting", message: "Connecting to the mesh…" });
      const joinedAt = performance.now();
      this.#session = this.#open(url, engine, compute, identity);
      const closed = await this.#session.run();
      this.#session = null;
      this.#set({ tier: null, session: null });
      if (this.#stopping.signal.aborted) break;
      const final = this.#words.final[closed.code];
      if (final !== undefined) {
        const message = closed.reason === "" ? final : `${final} The mesh says: ${closed.reason}`;
        return { why: "refused", code: closed.code, message };
      }
      if (closed.wasOpen) unanswered = -Infinity;
      unanswered += 1;
      if (unanswered >= (this.settings.firstTries ?? Infinity)) return { why: "unreachable", message: closed.reason };
      if (closed.wasJoined && performance.now() - joinedAt > STEADY_MS) attempt = 0;
      await this.#pause(closed, attempt);
      attempt += 1;
    }
    return { why: "stopped" };
  }

  async #pause(closed: Closed, attempt: number): Promise<void> {
    const ms =
      closed.code === 4429
        ? 30_000 * (1 + Math.random() / 2)
        : (closed.retryMs ?? 0) + backoffMs(closed.code === 1012 ? 0 : attempt, Math.random());
    const what = closed.wasOpen ? "The connection was lost" : "The mesh does not answer";
    const why = closed.reason === "" ? what : `${what}: ${closed.reason}`;
    this.#set({ state: "reconnecting", message: `${why}. Trying again in ${Math.ceil(ms / 1000)} s.` });
    await Promise.race([sleep(ms), new Promise((resolve) => this.#stopping.signal.addEventListener("abort", resolve))]);
  }

  #open(url: string, engine: Engine, compute: Compute, identity: Identity): Session {
    const work = this.#work;
    if (work === null) throw new Error("the worker is not prepared");
    return new Session(
      url,
      {
        identity,
        agent: this.settings.agent,
        held: () => work.held(),
        probe: (request) => this.#probe(engine, compute, request),
        joined: (tier) => this.#joined(tier, work),
        frame: (frame) => this.#frame(frame, work),
        heartbeat: () => ({ visible: this.visible, throttled: this.throttled, active: work.active }),
      },
      this.host.subtle,
      this.host.Socket,
    );
  }

  async #probe(engine: Engine, compute: Compute, request: ProbeRequest): Promise<Record<string, unknown>> {
    const { gpu } = compute;
    const backend = compute.main;
    const multiply: Multiply =
      backend === "webgpu" && gpu !== null
        ? gpu.multiply.bind(gpu)
        : (a, b, k, out) => engine.matmul(a.ptr, b.ptr, out, a.rows, b.rows, k);
    const digest = await probeDigest(engine, multiply, request);
    const rate = backend === "webgpu" ? this.status.gpuRate : this.status.wasmRate;
    const memory_mib = probeMemory(Math.min(request.memory_mib_max, this.settings.memoryMib));
    return {
      digest,
      ms: rate?.ms ?? 0,
      gops: rate?.gops ?? 0,
      memory_mib,
      proves_mib: this.#provesMib(memory_mib),
      backend,
      gpu: backend === "webgpu" ? this.status.gpu : null,
      engine: this.status.engine,
      kernels: backend === "webgpu" && gpu !== null ? hex(engine.hashBytes(new TextEncoder().encode(gpu.text))) : "",
    };
  }

  #joined(tier: Tier, work: Work): void {
    this.#token = tier.token;
    const state = work.active > 0 ? "computing" : "waiting";
    this.#set({ tier: tier.tier, session: tier.session, state, message: "Part of the mesh." });
    work.resend();
    this.#proofs?.resume();
  }

  #frame(frame: Frame, work: Work): void {
    const { header } = frame;
    if (header.t === "lease") work.leases(frame);
    else if (header.t === "prove") this.#proofs?.asked(header);
    else if (header.t === "ack") this.#acked(work.acks(header.acks as [string, string][]));
    else if (header.t === "cancel") this.#cancelled(header.leases as string[], work);
    else if (header.t === "heartbeat") this.#heard(header.credit);
    else throw new FrameError(`unknown frame ${header.t}`);
  }

  #acked(others: readonly string[]): void {
    for (const lease of others) this.#proofs?.acked(lease);
  }

  #cancelled(leases: readonly string[], work: Work): void {
    work.cancel(leases);
    this.#proofs?.cancel(leases);
  }

  #heard(told: unknown): void {
    const credit = creditOf(told);
    const { tasks, ops } = this.status.credit ?? {};
    if (credit !== null && (credit.tasks !== tasks || credit.ops !== ops)) this.#set({ credit });
  }

  /** Ends the worker with an error of its own. */
  #fail(error: unknown): void {
    this.#fault ??= { why: "failed", message: this.#words.error(error) };
    this.stop();
  }

  #showBackend(): void {
    const compute = this.#compute;
    if (compute !== null) this.#set({ backend: compute.main, gops: compute.gops });
  }

  #note(text: string): void {
    this.status.notes = [...this.status.notes, text].slice(-NOTES_MAX);
    this.host.changed(this.status);
  }

  /** Called many times a second while small tasks run; the host passes on what a person can follow. */
  #set(change: Partial<Status>): void {
    Object.assign(this.status, change);
    this.host.changed(this.status);
  }
}
