/** Back-off, frame budget and turns of the event loop. */
import { LIMITS } from "./types.ts";

const FIRST_MS = 500;
const MOST_MS = 15_000;

/** 0.5 s doubling to 15 s, times a random factor from 0.5 to 1.5. `random` is in [0, 1). */
export function backoffMs(attempt: number, random: number): number {
  return Math.min(MOST_MS, FIRST_MS * 2 ** Math.min(attempt, 16)) * (0.5 + random);
}

/** Token bucket over frames sent. */
export class FrameBudget {
  #tokens: number;
  #at: number;

  constructor(
    now: number,
    readonly perSecond: number = LIMITS.frames_per_s,
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

/**
 * Lets timers, messages and fetches run. A message channel, because setTimeout waits at least 4 ms when nested and a
 * second in a hidden page.
 */
const channel = new MessageChannel();
const turns: (() => void)[] = [];
channel.port1.onmessage = () => turns.shift()?.();
// In Node an open port would keep the process alive.
(channel.port1 as { unref?: () => void }).unref?.();

export function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    turns.push(resolve);
    channel.port2.postMessage(null);
  });
}

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((x, y) => x - y);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? (sorted[middle] ?? 0) : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
}
