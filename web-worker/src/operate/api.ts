/** Calls of the API with the operator's key. */

/** What the mesh says of a call that it refuses (RFC 9457), or that nobody answered (status 0). */
export class Problem extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

export class Api {
  /** What the mesh's clock is ahead of this machine's, in ms, within a second. */
  aheadMs = 0;

  constructor(readonly key: string) {}

  now(): number {
    return Date.now() + this.aheadMs;
  }

  /** The answer's JSON. Raises Problem. */
  async call<T>(path: string, body?: object): Promise<T> {
    let response: Response;
    try {
      response = await fetch(`../v1/${path}`, {
        method: body === undefined ? "GET" : "POST",
        headers: {
          Authorization: `Bearer ${this.key}`,
          ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        },
        cache: "no-store",
        signal: AbortSignal.timeout(20_000),
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
    } catch {
      throw new Problem(0, "The gateway does not answer.");
    }
    const date = Date.parse(response.headers.get("Date") ?? "");
    // The header has whole seconds: only what is more than that is a difference of the clocks.
    if (Number.isFinite(date) && Math.abs(date - Date.now()) > 2_000) this.aheadMs = date - Date.now();
    const answer: unknown = await response.json().catch(() => null);
    if (!response.ok) throw new Problem(response.status, saidBy(answer) ?? `The gateway answered ${response.status}.`);
    return answer as T;
  }

  /** All pages of a list. */
  async all<T>(path: string, name: string): Promise<T[]> {
    const found: T[] = [];
    let after = "";
    for (let page = 0; page < 20; page++) {
      const query = `limit=1000${after && `&after=${encodeURIComponent(after)}`}`;
      const answer = await this.call<Record<string, unknown>>(`${path}?${query}`);
      found.push(...(answer[name] as T[]));
      if (typeof answer["next"] !== "string") break;
      after = answer["next"];
    }
    return found;
  }
}

function saidBy(answer: unknown): string | null {
  if (typeof answer !== "object" || answer === null) return null;
  const { title, detail } = answer as { title?: unknown; detail?: unknown };
  if (typeof detail === "string") return typeof title === "string" ? `${title}: ${detail}` : detail;
  return typeof title === "string" ? title : null;
}
