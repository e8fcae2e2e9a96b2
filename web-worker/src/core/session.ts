/**
 * One connection to a gateway: handshake, then frames both ways, until it closes (docs/protocol.md §1, §2, §6).
 * Reconnecting is the caller's matter.
 */
import { decodeFrame, encodeFrame, type Frame, FrameError, type Header } from "./frame.ts";
import type { Identity } from "./identity.ts";
import { joinMessage, sign } from "./identity.ts";
import { FrameBudget } from "./timing.ts";
import { LIMITS } from "./types.ts";

export type Tier = { tier: string; max_leases: number; token: string; session: string; heartbeat_s?: number };
export type ProbeRequest = {
  seed: Uint8Array;
  m: number;
  n: number;
  k: number;
  rounds: number;
  memory_mib_max: number;
};

export type SessionHooks = {
  identity: Identity;
  agent: string;
  held(): string[];
  /** The fields of `probed`. */
  probe(request: ProbeRequest): Promise<Record<string, unknown>>;
  joined(tier: Tier): void;
  frame(frame: Frame): void;
  heartbeat(): Record<string, unknown>;
};

export type Closed = {
  code: number;
  reason: string;
  /** False where nobody answered at the address. */
  wasOpen: boolean;
  wasJoined: boolean;
  retryMs: number | null;
};

export const VERSION = 2;
const NO_COMMON_VERSION = 4406;
const MALFORMED = 4400;
/** As much as fits a close frame, whatever the letters. */
const REASON_CHARS = 40;

/** Sooner than the mesh asks for, so that a late timer costs nothing. */
const HEARTBEAT_MS = 10_000;
const HEARTBEAT_MS_MIN = 50;
/** Nothing heard for this long: the connection is dead though nobody closed it. */
const SILENCE_MS = 45_000;

export class Session {
  readonly #socket: WebSocket;
  readonly #budget = new FrameBudget(performance.now());
  #stage: "challenge" | "probe" | "tier" | "joined" = "challenge";
  #beating: ReturnType<typeof setInterval> | undefined;
  #heardAt = performance.now();
  #retryMs: number | null = null;
  #fault: string | null = null;
  #faultCode: number | null = null;
  #gaveUp = false;
  #wasOpen = false;

  constructor(
    url: string,
    readonly hooks: SessionHooks,
    readonly subtle: SubtleCrypto,
    Socket: typeof WebSocket = WebSocket,
  ) {
    this.#socket = new Socket(url);
    this.#socket.binaryType = "arraybuffer";
  }

  get joined(): boolean {
    return this.#stage === "joined" && this.#socket.readyState === 1;
  }

  /** Runs until the socket closes. */
  run(): Promise<Closed> {
    return new Promise((resolve) => {
      const socket = this.#socket;
      const handshake = setTimeout(() => this.#giveUp("the gateway took too long to answer"), LIMITS.handshake_ms);
      let trouble = "";
      socket.onopen = () => {
        this.#wasOpen = true;
        const { identity, agent } = this.hooks;
        const hello = { versions: [VERSION], key: identity.publicKey, agent: agent.slice(0, LIMITS.agent_chars) };
        this.send({ t: "hello", ...hello, held: this.hooks.held() });
      };
      socket.onmessage = (event: MessageEvent<unknown>) => {
        this.#heardAt = performance.now();
        if (this.#gaveUp) return;
        try {
          if (!(event.data instanceof ArrayBuffer)) throw new FrameError("a text message");
          this.#received(decodeFrame(event.data));
          if (this.#stage === "joined") clearTimeout(handshake);
        } catch (error) {
          const said = error instanceof Error ? error.message : String(error);
          if (error instanceof FrameError) this.#giveUp(said, MALFORMED, MALFORMED);
          else this.#giveUp(said);
        }
      };
      // Browsers tell nothing of what went wrong; other hosts name it.
      socket.onerror = (event) => (trouble = (event as Partial<ErrorEvent>).message ?? "");
      socket.onclose = (event: CloseEvent) => {
        clearTimeout(handshake);
        clearInterval(this.#beating);
        resolve({
          code: this.#faultCode ?? event.code,
          reason: this.#fault ?? (event.reason || trouble),
          wasOpen: this.#wasOpen,
          wasJoined: this.#stage === "joined",
          retryMs: this.#retryMs,
        });
      };
    });
  }

  /** False where the socket is not open. */
  send(header: Header, segments: readonly Uint8Array[] = []): boolean {
    return this.sendBytes(encodeFrame(header, segments));
  }

  sendBytes(frame: Uint8Array<ArrayBuffer>): boolean {
    if (this.#socket.readyState !== 1) return false;
    this.#socket.send(frame);
    return true;
  }

  /** Whether one more frame is within the rate limit now. */
  maySend(): boolean {
    return this.#budget.take(performance.now());
  }

  close(): void {
    this.#socket.close(1000);
  }

  /** `code`: what the close means here, where the socket's own would not say it. `told`: what the mesh hears. */
  #giveUp(reason: string, code: number | null = null, told?: number): void {
    // What went wrong first is what was wrong.
    this.#fault ??= reason;
    this.#faultCode ??= code;
    this.#gaveUp = true;
    if (told === undefined) this.#socket.close();
    else this.#socket.close(told, reason.slice(0, REASON_CHARS));
  }

  #beat(): void {
    if (this.#stage !== "joined") return;
    if (performance.now() - this.#heardAt > SILENCE_MS) this.#giveUp("the gateway went silent");
    else this.send({ t: "heartbeat", ...this.hooks.heartbeat() });
  }

  #received(frame: Frame): void {
    const { header } = frame;
    if (header.t === "bye") {
      if (typeof header.retry_ms === "number") this.#retryMs = header.retry_ms;
      this.#fault = typeof header.reason === "string" ? header.reason : null;
    } else if (this.#stage === "joined") {
      this.hooks.frame(frame);
    } else if (header.t !== this.#stage) {
      throw new FrameError(`frame ${header.t} where ${this.#stage} was due`);
    } else if (header.t === "challenge") {
      const { version } = header;
      if (version !== VERSION) return this.#giveUp(`version ${String(version)} was not offered`, NO_COMMON_VERSION);
      this.#stage = "probe";
      void this.#answer(this.#auth(header));
    } else if (header.t === "probe") {
      this.#stage = "tier";
      const request = header as unknown as ProbeRequest;
      void this.#answer(this.hooks.probe(request).then((fields) => ({ t: "probed", ...fields })));
    } else {
      this.#stage = "joined";
      const tier = header as unknown as Tier;
      this.hooks.joined(tier);
      const wanted_ms = (tier.heartbeat_s ?? Infinity) * 1000;
      this.#beating = setInterval(() => this.#beat(), Math.max(HEARTBEAT_MS_MIN, Math.min(HEARTBEAT_MS, wanted_ms)));
      // The first one at once: its answer says what the mesh has verified of this device so far.
      this.#beat();
    }
  }

  async #auth(challenge: Header): Promise<Header> {
    const { nonce, session } = challenge as unknown as { nonce: Uint8Array; session: string };
    const { identity } = this.hooks;
    return { t: "auth", sig: await sign(identity, joinMessage(nonce, identity.publicKey, session), this.subtle) };
  }

  async #answer(header: Promise<Header>): Promise<void> {
    try {
      this.send(await header);
    } catch (error) {
      this.#giveUp(String(error));
    }
  }
}
