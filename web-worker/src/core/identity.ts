/** The worker's Ed25519 key and its proof of possession (docs/protocol.md §2). */

export type Identity = { publicKey: Uint8Array<ArrayBuffer>; privateKey: CryptoKey };

/** Where a key lives between visits; keys stay non-extractable. */
export type KeyStore = { load(): Promise<CryptoKeyPair | null>; save(pair: CryptoKeyPair): Promise<void> };

const JOIN_TAG = new TextEncoder().encode("shardy-join-v1\0");

export async function identityFrom(store: KeyStore, subtle: SubtleCrypto): Promise<Identity> {
  let pair = await store.load();
  if (pair === null) {
    pair = (await subtle.generateKey({ name: "Ed25519" }, false, ["sign", "verify"]));
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

export async function signJoin(
  who: Identity,
  nonce: Uint8Array,
  session: string,
  subtle: SubtleCrypto,
): Promise<Uint8Array> {
  const message = joinMessage(nonce, who.publicKey, session);
  return new Uint8Array(await subtle.sign({ name: "Ed25519" }, who.privateKey, message));
}
