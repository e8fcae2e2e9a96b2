/** The worker's Ed25519 key: it proves possession (docs/protocol.md §2) and answers for results (§5.1). */

export type Identity = { publicKey: Uint8Array<ArrayBuffer>; privateKey: CryptoKey };

/** Where a key lives between visits; keys stay non-extractable. */
export type KeyStore = { load(): Promise<CryptoKeyPair | null>; save(pair: CryptoKeyPair): Promise<void> };

const JOIN_TAG = new TextEncoder().encode("shardy-join-v1\0");
const RESULTS_TAG = new TextEncoder().encode("shardy-results-v2\0");

export async function identityFrom(store: KeyStore, subtle: SubtleCrypto): Promise<Identity> {
  let pair = await store.load();
  if (pair === null) {
    pair = await subtle.generateKey({ name: "Ed25519" }, false, ["sign", "verify"]);
    await store.save(pair);
  }
  const publicKey = new Uint8Array(await subtle.exportKey("raw", pair.publicKey));
  return { publicKey, privateKey: pair.privateKey };
}

/** `"shardy-join-v1" ‖ 00 ‖ nonce ‖ key ‖ utf8(session)`. */
export function joinMessage(nonce: Uint8Array, key: Uint8Array, session: string): Uint8Array<ArrayBuffer> {
  const tail = new TextEncoder().encode(session);
  const message = new Uint8Array(JOIN_TAG.length + nonce.length + key.length + tail.length);
  message.set(JOIN_TAG, 0);
  message.set(nonce, JOIN_TAG.length);
  message.set(key, JOIN_TAG.length + nonce.length);
  message.set(tail, JOIN_TAG.length + nonce.length + key.length);
  return message;
}

/** `"shardy-results-v2" ‖ 00 ‖ root`. */
export function resultsMessage(root: Uint8Array): Uint8Array<ArrayBuffer> {
  const message = new Uint8Array(RESULTS_TAG.length + root.length);
  message.set(RESULTS_TAG, 0);
  message.set(root, RESULTS_TAG.length);
  return message;
}

/** 64 bytes. */
export async function sign(
  who: Identity,
  message: Uint8Array<ArrayBuffer>,
  subtle: SubtleCrypto,
): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await subtle.sign({ name: "Ed25519" }, who.privateKey, message));
}
