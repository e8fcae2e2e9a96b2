/** Hex, joined bytes, and the peer id of a key. */

export const utf8 = new TextEncoder();

/** Of text that is known to be hex. */
export function fromHex(text: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(text.length / 2);
  for (let at = 0; at < bytes.length; at++) bytes[at] = parseInt(text.slice(2 * at, 2 * at + 2), 16);
  return bytes;
}

export function joined(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

const BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/** An Ed25519 key as protobuf in an identity multihash. Its first byte is zero, which base58 writes as a 1. */
const PEER_PREFIX = "002408011220";

/** The libp2p peer id of an Ed25519 key in hex. */
export function peerId(key: string): string {
  let text = "";
  for (let rest = BigInt(`0x${PEER_PREFIX}${key}`); rest > 0n; rest /= 58n) {
    text = (BASE58[Number(rest % 58n)] as string) + text;
  }
  return `1${text}`;
}

/** The key in a worker's peer id; null for other text. */
export function peerKey(worker: string): Uint8Array<ArrayBuffer> | null {
  let number = 0n;
  for (const character of worker) {
    const digit = BASE58.indexOf(character);
    if (digit < 0) return null;
    number = number * 58n + BigInt(digit);
  }
  const text = number.toString(16).padStart(PEER_PREFIX.length + 64, "0");
  const isOne = text.length === PEER_PREFIX.length + 64 && text.startsWith(PEER_PREFIX);
  return isOne ? fromHex(text.slice(PEER_PREFIX.length)) : null;
}
