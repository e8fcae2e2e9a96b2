// SPDX-License-Identifier: GPL-3.0-only
//
// What a proving key says of its ceremony, read from its bytes: for ceremony.mjs and the page of contribute/.

export const MPC_SECTION = 10;
const SECTION_BYTES_MAX = 1 << 20;
const CONTRIBUTION_POINTS = 3 * 64 + 128; // three points of G1, one of G2
const BEACON = 1;

export class Malformed extends Error {}

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

/**
 * The bytes of a key's section about the ceremony. read(at, length): bytes of the key, or less where it ends.
 */
export function ceremonySection(read) {
  const whole = (at, length) => {
    const bytes = read(at, length);
    if (bytes.length !== length) throw new Malformed('it is cut short');
    return new DataView(bytes.buffer, bytes.byteOffset, length);
  };
  const head = whole(0, 12);
  if (head.getUint32(0, false) !== 0x7a6b6579) throw new Malformed('it is no proving key'); // "zkey"
  let at = 12;
  for (let left = head.getUint32(8, true); left > 0; left--) {
    const section = whole(at, 12);
    const size = Number(section.getBigUint64(4, true));
    if (section.getUint32(0, true) === MPC_SECTION) {
      if (size > SECTION_BYTES_MAX) throw new Malformed('it lists too many contributions');
      const found = whole(at + 12, size);
      return new Uint8Array(found.buffer, found.byteOffset, size);
    }
    at += 12 + size;
  }
  throw new Malformed('it knows of no ceremony');
}

/** Who contributed: {kind, name, transcript, beacon?, iterations?} in their order. transcript: 64 bytes in hex. */
export function contributionsIn(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const found = [];
  let at = 68;
  for (let left = view.getUint32(64, true); left > 0; left--) {
    at += CONTRIBUTION_POINTS;
    const one = { kind: '', name: '', transcript: hex(bytes.subarray(at, at + 64)) };
    one.kind = view.getUint32(at + 64, true) === BEACON ? 'beacon' : 'person';
    const end = at + 72 + view.getUint32(at + 68, true);
    at += 72;
    while (at < end) {
      const type = bytes[at];
      if (type === 2) {
        one.iterations = bytes[at + 1];
        at += 2;
        continue;
      }
      const value = bytes.subarray(at + 2, at + 2 + bytes[at + 1]);
      if (type === 1) one.name = new TextDecoder().decode(value);
      else if (type === 3) one.beacon = hex(value);
      else throw new Malformed('a contribution says what nobody knows');
      at += 2 + value.length;
    }
    found.push(one);
  }
  return found;
}
