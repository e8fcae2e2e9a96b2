/** What the page and its worker tell each other. id: of a check or a comparison; answers to older ones are left. */
import type { Wanted } from "./arrays.ts";

export type Checked = {
  problems: string[];
  vouched: boolean;
  type: string;
  mesh: string;
  job: string;
  key: string;
  tasks: number;
  ops: bigint;
  workers: number;
  methods: [name: string, tasks: number][];
  signed: number;
  unsigned: number;
  proofs: number;
  development: boolean;
};

export type Compared = { problems: string[]; tiles: number; operands: string[]; proofs: number };

export type ToWorker =
  /** receipt: null for the one that was checked before. keys: null where nobody has said one. */
  | { t: "check"; id: number; receipt: Blob | null; keys: string[] | null }
  | { t: "compare"; id: number; files: [name: string, file: Blob][] };

export type FromWorker =
  /** lacking: why nothing can be checked here. */
  | { t: "ready"; lacking: string | null }
  | { t: "progress"; id: number; part: number; text: string }
  /** wanted: arrays that it may be compared with. */
  | { t: "checked"; id: number; report: Checked; wanted: Wanted[] }
  | { t: "compared"; id: number; report: Compared }
  | { t: "failed"; id: number; message: string };
