/** Result bytes too large for a frame go up over HTTP (docs/protocol.md §5). */
import { sleep } from "./timing.ts";
import { WorkError } from "./types.ts";

const TRIES = 4;
const TIMEOUT_MS = 120_000;

export type UploadTarget = { base: string; token: () => string; fetch: typeof fetch };

/** Uploads `bytes()`; asked anew for each try, since a view on linear memory does not outlive its growth. */
export async function upload(
  target: UploadTarget,
  lease: string,
  bytes: () => Uint8Array<ArrayBuffer>,
  signal: AbortSignal,
): Promise<void> {
  let last = "";
  for (let attempt = 0; attempt < TRIES && !signal.aborted; attempt++) {
    if (attempt > 0) await sleep(150 * 2 ** attempt);
    try {
      const response = await target.fetch(`${target.base}/v1/worker/results/${encodeURIComponent(lease)}`, {
        method: "PUT",
        headers: { authorization: `Bearer ${target.token()}`, "content-type": "application/octet-stream" },
        body: bytes(),
        signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
      });
      await response.arrayBuffer();
      if (response.status === 201 || response.status === 200) return;
      last = `answer ${response.status}`;
      // Another try changes nothing about a refusal of the bytes; a stale token or a busy gateway may pass.
      if ([400, 404, 409, 413, 422].includes(response.status)) break;
    } catch (error) {
      last = String(error);
    }
  }
  throw new WorkError("fetch", `upload of the result: ${last}`);
}
