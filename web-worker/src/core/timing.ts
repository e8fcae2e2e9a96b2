/** Back-off, frame budget and turns of the event loop. */
import { LIMITS } from "./types.ts";

const FIRST_MS = 500;
const MOST_MS = 15_000;

/** 0.5 s doubling to 15 s, times a random factor from 0.5 to 1.5. `random` is in [0, 1). */
export function backoffMs(attempt: number, random: number): number {
  return Math.min(MOST_MS, FIRST_MS * 2 ** Math.min(attempt, 16)) * (0.5 + random);
}

/** Token bucket over result frames sent. */
export class FrameBudget {
  #tokens: number;
  #at: number;

  constructor(
    now: number,
    readonly perSecond: number = LIMITS.result_frames_per_s,
    readonly burst: number = 256,
  ) {
    this.#tokens = burst;
    this.#at = now;
  }

  /** Takes one frame's worth; false when it has to wait. */
  take(now: number): boolean {
    this.#tokens = Math.min(this.burst, this.#tokens + ((now - this.#at) * this.perSecond) / 1000);
    this.#at = now;
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}

type After = (then: () => void) => void;

/** A message channel, because setTimeout waits at least 4 ms when nested and a second in a hidden page. */
function byMessages(): After {
  const channel = new MessageChannel();
  const turns: (() => void)[] = [];
  channel.port1.onmessage = () => turns.shift()?.();
  return (then) => {
    turns.push(then);
    channel.port2.postMessage(null);
  };
}

const { setImmediate: immediate } = globalThis as { setImmediate?: After };
/** Node and Bun have a turn for this; Bun would hand over a channel's messages for ever before a timer or a socket. */
const afterThis: After = immediate ?? byMessages();

/** Lets timers, messages and fetches run. */
export const nextTurn = (): Promise<void> => new Promise((resolve) => afterThis(resolve));

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((x, y) => x - y);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? (sorted[middle] ?? 0) : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
}
