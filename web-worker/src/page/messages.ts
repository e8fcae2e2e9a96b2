/** What the page and its dedicated worker tell each other. */
import type { Settings, Status } from "../core/status.ts";

export type ToWorker =
  | { t: "start"; settings: Settings; visible: boolean }
  | { t: "visible"; visible: boolean }
  | { t: "stop" };

export type FromWorker = { t: "status"; status: Status };
