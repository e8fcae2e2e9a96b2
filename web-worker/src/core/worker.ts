/**
 * The worker: prepares engine and GPU, joins a mesh, works, reconnects, leaves. No DOM: everything that belongs to a
 * page (keys, visibility, the adapter) is handed in, so that other hosts can run it.
 */
import { Engine, hex } from "../engine/engine.ts";
import { chooseKernel, type Refusal, type Trial } from "../gpu/choose.ts";
import { openDevice } from "../gpu/device.ts";
import { type Backends, Compute } from "./compute.ts";
import type { Frame } from "./frame.ts";
import { type Identity, identityFrom, type KeyStore } from "./identity.ts";
import { measure, type Multiply, probeMemory, type Rate } from "./measure.ts";
import { OperandStore } from "./operands.ts";
import { probeDigest } from "./probe.ts";
import { type Closed, type ProbeRequest, Session, type Tier } from "./session.ts";
import { backoffMs, sleep } from "./timing.ts";
import type { BackendName } from "./types.ts";
import { Work } from "./work.ts";

export type Settings = {
  /** http(s)://host, without a path. */
  mesh: string;
  agent: string;
  backend: Backends;
  /** Force one kernel variant, by its name in the manifest. */
  kernel?: string;
  memoryMib: number;
};

export type Host = {
  keys: KeyStore;
  subtle: SubtleCrypto;
  gpu: GPU | undefined;
  engineBytes: BufferSource;
  fetch: typeof fetch;
  Socket: typeof WebSocket;
  changed(status: Status): void;
};

export type State = "preparing" | "connecting" | "waiting" | "computing" | "reconnecting" | "stopped" | "failed";

export type Status = {
  state: State;
  message: string;
  tier: string | null;
  session: string | null;
  key: string | null;
  backend: BackendName | null;
  gpu: string | null;
  kernel: string | null;
  gops: number;
  rates: { wasm: Rate | null; webgpu: Rate | null };
  trials: Trial[];
  refused: Refusal[];
  engine: string | null;
  tasksDone: number;
  tasksFailed: number;
  doneBy: Record<string, number>;
  work: string | null;
  lastDigest: string | null;
  /** Sentences for the person at the page, newest last. */
  notes: string[];
};

/** Close codes after which another attempt would end the same way, in words. */
const FINAL: Readonly<Record<number, string>> = {
  4400: "The mesh and this page don't understand each other. Reload the page to update it.",
  4401: "The mesh did not accept this device's key or its test result.",
  4403: "The mesh has banned this device after a proven wrong result.",
  4406: "This page is too old for the mesh. Reload it.",
  4409: "This device joined again from another tab. This one has stopped.",
  4413: "A message was larger than the mesh allows. Reload the page to update it.",
};
const NOTES_MAX = 12;
const GPU_RETRY_MS = [1_000, 4_000, 16_000];
const STEADY_MS = 30_000;

export class MeshWorker {
  readonly status: Status = {
    state: "preparing",
    message: "",
    tier: null,
    session: null,
    key: null,
    backend: null,
    gpu: null,
    kernel: null,
    gops: 0,
    rates: { wasm: null, webgpu: null },
    trials: [],
    refused: [],
    engine: null,
    tasksDone: 0,
    tasksFailed: 0,
    doneBy: {},
    work: null,
    lastDigest: null,
    notes: [],
  };
  visible = true;
  throttled = false;
  readonly #stopping = new AbortController();
  #session: Session | null = null;
  #work: Work | null = null;
  #compute: Compute | null = null;
  #token = "";

  constructor(
    readonly settings: Settings,
    readonly host: Host,
  ) {}

  /** Runs until stopped or refused for good; never throws. */
  async run(): Promise<void> {
    try {
      const { engine, compute, identity } = await this.#prepare();
      if (!this.#stopping.signal.aborted) await this.#stayJoined(engine, compute, identity);
      this.#set({ state: this.status.state === "failed" ? "failed" : "stopped", work: null });
    } catch (error) {
      this.#set({ state: "failed", message: inWords(error), work: null });
    }
  }

  /** Gives back all leases and disconnects; work in progress ends at its next stretch. */
  stop(): void {
    this.#session?.send({ t: "leave" });
    this.#stopping.abort();
    this.#work?.drop();
    this.#session?.close();
    this.#set({ state: "stopped", message: "Stopped. Nothing runs any more.", work: null });
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
    this.#set({ rates: { wasm, webgpu: null } });
    if (settings.backend !== "wasm") await this.#openGpu(engine, compute);
    this.#showBackend();
    const tools = { engine, store, compute, stopping: this.#stopping.signal };
    this.#work = new Work(
      tools,
      source,
      {
        send: (frame) => this.#session?.joined === true && this.#session.sendBytes(frame),
        mayStartFrame: () => this.#session?.maySend() ?? true,
        failed: (lease, code, message) => void this.#session?.send({ t: "failed", lease, code, message: message.slice(0, 400) }),
      },
      {
        started: (_lease, title) => this.#set({ state: "computing", work: title }, true),
        finished: ({ backend, digest }) => {
          this.status.tasksDone += 1;
          this.status.doneBy[backend] = (this.status.doneBy[backend] ?? 0) + 1;
          this.#set({ lastDigest: digest }, true);
        },
        failed: (_lease, error) => {
          this.status.tasksFailed += 1;
          this.#note(`A task was given back (${error.code}): ${error.message}`);
        },
        idle: () => this.#session?.joined === true && this.#set({ state: "waiting", work: null }),
      },
    );
    return { engine, compute, identity };
  }

  async #openGpu(engine: Engine, compute: Compute): Promise<boolean> {
    const adapter = await openDevice(this.host.gpu);
    if (typeof adapter === "string") {
      this.#note(`${adapter}; this device computes on its processor.`);
      return false;
    }
    const choice = await chooseKernel(adapter, engine, this.settings.kernel);
    const refused = Array.isArray(choice) ? choice : choice.refused;
    for (const { variant, reason } of refused) this.#note(`Kernel ${variant} is not used: ${reason}.`);
    this.#set({ gpu: adapter.name, refused });
    if (Array.isArray(choice)) {
      adapter.device.destroy();
      this.#note("No graphics kernel gave exact results; this device computes on its processor.");
      return false;
    }
    compute.gpuGops = choice.rate.gops;
    compute.gpuFixedMs = choice.fixedMs;
    compute.gpu = choice.gpu;
    this.#set({
      kernel: choice.gpu.entry.name,
      trials: choice.trials,
      rates: { ...this.status.rates, webgpu: choice.rate },
    });
    void adapter.device.lost.then((info) => {
      if (compute.gpu !== choice.gpu || this.#stopping.signal.aborted) return;
      compute.gpu = null;
      this.#note(`The graphics unit was lost (${info.message || info.reason}); trying to get it back.`);
      this.#showBackend();
      void this.#reopenGpu(engine, compute);
    });
    return true;
  }

  async #reopenGpu(engine: Engine, compute: Compute): Promise<void> {
    for (const ms of GPU_RETRY_MS) {
      await sleep(ms);
      if (this.#stopping.signal.aborted) return;
      try {
        if (await this.#openGpu(engine, compute)) {
          this.#note("The graphics unit is back.");
          this.#showBackend();
          return;
        }
      } catch (error) {
        this.#note(`The graphics unit did not come back: ${String(error)}`);
      }
    }
  }

  async #stayJoined(engine: Engine, compute: Compute, identity: Identity): Promise<void> {
    const url = `${this.settings.mesh.replace(/^http/, "ws")}/ws/worker-join`;
    let attempt = 0;
    while (!this.#stopping.signal.aborted) {
      this.#set({ state: attempt === 0 ? "connecting" : "reconnecting", message: "Connecting to the mesh…" });
      const joinedAt = performance.now();
      this.#session = this.#open(url, engine, compute, identity);
      const closed = await this.#session.run();
      this.#session = null;
      this.#set({ tier: null, session: null });
      if (this.#stopping.signal.aborted) return;
      const final = FINAL[closed.code];
      if (final !== undefined) {
        this.#note(`${final} ${closed.reason}`.trim());
        this.#set({ state: "failed", message: final });
        return;
      }
      if (closed.wasJoined && performance.now() - joinedAt > STEADY_MS) attempt = 0;
      await this.#pause(closed, attempt);
      attempt += 1;
    }
  }

  async #pause(closed: Closed, attempt: number): Promise<void> {
    const ms =
      closed.code === 4429
        ? 30_000 * (1 + Math.random() / 2)
        : (closed.retryMs ?? 0) + backoffMs(closed.code === 1012 ? 0 : attempt, Math.random());
    const why = closed.reason === "" ? "The connection was lost" : `The connection ended: ${closed.reason}`;
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
    const rate = this.status.rates[backend];
    return {
      digest,
      ms: rate?.ms ?? 0,
      gops: rate?.gops ?? 0,
      memory_mib: probeMemory(Math.min(request.memory_mib_max, this.settings.memoryMib)),
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
    // The session counts as joined once its handler has returned.
    queueMicrotask(() => work.resend());
  }

  #frame(frame: Frame, work: Work): void {
    const { header } = frame;
    if (header.t === "lease") work.leases(frame);
    else if (header.t === "ack") work.acks(header.acks as [string, string][]);
    else if (header.t === "cancel") work.cancel(header.leases as string[]);
    else if (header.t !== "heartbeat") throw new Error(`unknown frame ${header.t}`);
  }

  #showBackend(): void {
    const compute = this.#compute;
    if (compute !== null) this.#set({ backend: compute.main, gops: compute.gops });
  }

  #note(text: string): void {
    this.status.notes = [...this.status.notes, text].slice(-NOTES_MAX);
    this.host.changed(this.status);
  }

  /** `often`: many times a second; the host may skip such changes. */
  #set(change: Partial<Status>, _often = false): void {
    Object.assign(this.status, change);
    this.host.changed(this.status);
  }
}

function inWords(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  if (/Ed25519|NotSupported|Unrecognized name/i.test(text)) {
    return "This browser can't make the kind of key that the mesh needs (Ed25519). A current browser can.";
  }
  if (/no room|memory/i.test(text)) return "There is not enough free memory to take part.";
  return `Something went wrong: ${text}`;
}
