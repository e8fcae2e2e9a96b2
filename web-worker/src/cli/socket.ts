/** The WebSocket of this runtime, or that of the package `ws` where there is none (Node before 22). */
import { WebSocket as WsSocket } from "ws";
import { FRAME_BYTES_MAX } from "../core/frame.ts";

const CONNECT_MS = 15_000;

class NodeSocket extends WsSocket {
  constructor(url: string | URL) {
    super(url, {
      perMessageDeflate: false,
      maxPayload: FRAME_BYTES_MAX,
      handshakeTimeout: CONNECT_MS,
      // As in a browser, one message is dealt with before the next one comes.
      allowSynchronousEvents: false,
    });
  }
}

export function socketClass(here: { WebSocket?: typeof WebSocket } = globalThis): typeof WebSocket {
  return typeof here.WebSocket === "function" ? here.WebSocket : (NodeSocket as unknown as typeof WebSocket);
}
