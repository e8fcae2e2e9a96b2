/**
 * Non-extractable keys in IndexedDB. Each open tab needs a key of its own, since the mesh lets a key join once:
 * a lock per slot gives the first tab the first key, the second tab the second, and again so after a reload.
 */
import type { KeyStore } from "../core/identity.ts";

const SLOTS = 64;

function request<T>(of: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    of.onsuccess = () => resolve(of.result);
    of.onerror = () => reject(new Error(of.error?.message ?? "storage refused"));
  });
}

async function database(): Promise<IDBDatabase> {
  const opening = indexedDB.open("shardy", 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore("keys");
  return request(opening);
}

/** Held until this worker ends. */
function lockSlot(slot: number): Promise<boolean> {
  return new Promise((resolve) => {
    void navigator.locks.request(`shardy-key-${slot}`, { ifAvailable: true }, (lock) => {
      resolve(lock !== null);
      return lock === null ? undefined : new Promise(() => undefined);
    });
  });
}

export async function openKeyStore(): Promise<KeyStore> {
  let slot = 0;
  while (slot < SLOTS && !(await lockSlot(slot))) slot += 1;
  try {
    const db = await database();
    const keys = (mode: IDBTransactionMode): IDBObjectStore => db.transaction("keys", mode).objectStore("keys");
    return {
      load: async () => ((await request(keys("readonly").get(slot))) as CryptoKeyPair | undefined) ?? null,
      save: async (pair) => void (await request(keys("readwrite").put(pair, slot))),
    };
  } catch {
    // Private windows may have no storage: the key then lasts as long as the page.
    return { load: () => Promise.resolve(null), save: () => Promise.resolve() };
  }
}
