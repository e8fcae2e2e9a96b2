/**
 * Bun's own WebSocket, and in Node that of the package `ws`: before version 22 Node has none, and since then one that
 * says nothing of a connection that failed (no `close` event follows the error in 22.23).
 */
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

export function socketClass(versions: Readonly<Record<string, string | undefined>>): typeof WebSocket {
  return "bun" in versions ? WebSocket : (NodeSocket as unknown as typeof WebSocket);
}
