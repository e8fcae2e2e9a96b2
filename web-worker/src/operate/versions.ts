/** What the page says of verifier versions. Pure. */

/** As `GET /v1/verifiers` lists them. */
export type Version = {
  version: string;
  circuit: string;
  shape: number[];
  status: "registered" | "active" | "grace" | "retired" | "revoked";
  vk_hash: string;
  dev: boolean;
  registered_by: string | null;
  registered_ms: number;
  active_ms: number | null;
  grace_until_ms: number | null;
  revoked_ms: number | null;
  successor: string | null;
  why: string | null;
  files: object | null;
};

export type Row = {
  version: string;
  status: Version["status"];
  /** Beside the status: until when, since when, why. */
  note: string;
  hash: string;
  /** development, and whether workers can prove under it. */
  marks: string[];
  registered: string;
  canRotate: boolean;
  canRevoke: boolean;
};

export type Circuit = { name: string; shape: string; active: string; rows: Row[] };

const UNITS: readonly [name: string, ms: number][] = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["min", 60_000],
  ["s", 1_000],
];

/** In at most two units: 1 d 3 h, 9 min 5 s, 0 s. */
export function span(ms: number): string {
  let left = Math.max(0, Math.ceil(ms / 1_000) * 1_000);
  const said: string[] = [];
  for (const [name, size] of UNITS) {
    const count = Math.floor(left / size);
    left -= count * size;
    if (count > 0) said.push(`${count} ${name}`);
    else if (said.length > 0) break;
    if (said.length === 2) break;
  }
  return said.join(" ") || "0 s";
}

/** 2026-01-31 09:05, in UTC. */
export const moment = (ms: number): string => new Date(ms).toISOString().slice(0, 16).replace("T", " ");

const GRACE = /^(\d{1,9})(s|m|h|d)$/;
const SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 };

/** Seconds of 90s, 10m, 2h or 1d; null for anything else. */
export function graceSeconds(text: string): number | null {
  const found = GRACE.exec(text.trim());
  return found ? Number(found[1]) * (SECONDS[found[2] as string] as number) : null;
}

/** What stands beside a status at `now`, in ms by the mesh's clock. */
export function noteOf(version: Version, now: number): string {
  switch (version.status) {
    case "registered":
      return "was never active";
    case "active":
      return version.active_ms === null ? "" : `for ${span(now - version.active_ms)}`;
    case "grace": {
      const left = (version.grace_until_ms ?? now) - now;
      return left > 0 ? `still counts for earlier leases, for ${span(left)}` : "is over";
    }
    case "retired":
      return "its grace is over";
    case "revoked":
      return [version.why ?? "", version.successor === null ? "" : `in its place: ${version.successor}`]
        .filter(Boolean)
        .join("; ");
  }
}

/** By circuit, each with its newest version first. */
export function circuitsOf(versions: readonly Version[], now: number): Circuit[] {
  const found = new Map<string, Circuit>();
  for (const version of versions) {
    const { circuit, status } = version;
    const of = found.get(circuit) ?? { name: circuit, shape: version.shape.join("×"), active: "", rows: [] };
    found.set(circuit, of);
    if (status === "active") of.active = version.version;
    of.rows.unshift({
      version: version.version,
      status,
      note: noteOf(version, now),
      hash: version.vk_hash,
      marks: [version.dev ? "development" : "", version.files === null ? "no files for workers" : ""].filter(Boolean),
      registered: moment(version.registered_ms),
      canRotate: status !== "active" && status !== "revoked",
      canRevoke: status !== "revoked",
    });
  }
  return [...found.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** What a rotation does, before it is done. */
export function rotationWords(circuit: Circuit, version: string): string {
  if (circuit.active === "") return `${version} becomes the active version of ${circuit.name}, which has none now.`;
  return (
    `${version} becomes the active version of ${circuit.name}. ` +
    `What was leased before, under ${circuit.active}, counts for as long as you say; nothing is lost or computed again.`
  );
}

/** What a revocation does, before it is done. */
export function revocationWords(circuit: Circuit, version: string): string {
  const left =
    circuit.active === version ? " Without another version in its place, nothing more is proved in this circuit." : "";
  return (
    "From now on no proof counts under it: those on their way are refused, and their tasks are lent again. Every " +
    `result that was accepted under it is audited again by its bytes.${left}`
  );
}
