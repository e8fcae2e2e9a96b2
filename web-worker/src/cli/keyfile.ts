/**
 * The worker's key in a file: PEM, PKCS 8, mode 600, as the native worker keeps it, so that either can use the other's.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { closeSync, constants, fstatSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { homedir, platform } from "node:os";
import { dirname, join } from "node:path";
import type { KeyStore } from "../core/identity.ts";
import { UsageError } from "./options.ts";

const FILE_BYTES_MAX = 65_536;

/** In the platform's folder for user data; another file than the native worker's, so that both can run at once. */
export function defaultKeyPath(env: Readonly<Record<string, string | undefined>>, os: string = platform()): string {
  const home = homedir();
  const base =
    os === "win32"
      ? env.APPDATA || join(home, "AppData", "Roaming")
      : os === "darwin"
        ? join(home, "Library", "Application Support")
        : env.XDG_DATA_HOME || join(home, ".local", "share");
  return join(base, "shardy", "js-worker.key");
}

/** The key in `path`, made there if there is none. UsageError when it is no Ed25519 key, or others may read it. */
export function loadOrCreate(path: string): KeyObject {
  const text = readPrivate(path);
  return text === null ? create(path) : keyFrom(text, path);
}

const reason = (error: unknown): string => {
  const { code, message } = error as NodeJS.ErrnoException;
  const words: Record<string, string> = {
    EACCES: "permission denied",
    EISDIR: "it is no file",
    ENOTDIR: "a folder on the way is a file",
    EROFS: "the file system is read-only",
    ENOSPC: "the disk is full",
  };
  return words[code ?? ""] ?? code ?? message;
};

/** The file's text, or null where there is none. */
function readPrivate(path: string): Buffer | null {
  let handle: number;
  try {
    // Without O_NONBLOCK a pipe of that name would be waited for.
    handle = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw new UsageError(`cannot read the key file ${path}: ${reason(error)}`);
  }
  try {
    const info = fstatSync(handle);
    if (!info.isFile()) throw new UsageError(`cannot read the key file ${path}: it is no file`);
    const mode = info.mode & 0o777;
    if (platform() !== "win32" && (mode & 0o077) !== 0) {
      throw new UsageError(`the key file ${path} is open to others (mode ${mode.toString(8)}): run chmod 600 ${path}`);
    }
    if (info.size > FILE_BYTES_MAX) throw new UsageError(`${path} is no key file: it has ${info.size} bytes`);
    return readFileSync(handle);
  } finally {
    closeSync(handle);
  }
}

function keyFrom(text: Buffer, path: string): KeyObject {
  try {
    const key = createPrivateKey(text);
    if (key.asymmetricKeyType === "ed25519") return key;
  } catch {
    // Told below.
  }
  throw new UsageError(`${path} holds no unencrypted Ed25519 key in PEM form; name another file`);
}

function create(path: string): KeyObject {
  const { privateKey } = generateKeyPairSync("ed25519");
  let handle: number;
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    // "wx" is O_EXCL: with the mode at creation, at no moment can anybody else read the file.
    handle = openSync(path, "wx", 0o600);
  } catch (error) {
    // Somebody made it meanwhile: theirs counts.
    if ((error as NodeJS.ErrnoException).code === "EEXIST") {
      const text = readPrivate(path);
      if (text !== null) return keyFrom(text, path);
    }
    throw new UsageError(`cannot write the key file ${path}: ${reason(error)}`);
  }
  try {
    writeFileSync(handle, privateKey.export({ type: "pkcs8", format: "pem" }));
  } catch (error) {
    throw new UsageError(`cannot write the key file ${path}: ${reason(error)}`);
  } finally {
    closeSync(handle);
  }
  return privateKey;
}

/** The key as the worker wants it: its private half can sign, and cannot be read out again. */
export function storeOf(key: KeyObject, subtle: SubtleCrypto): KeyStore {
  const pair = async (): Promise<CryptoKeyPair> => {
    const der = new Uint8Array(key.export({ type: "pkcs8", format: "der" }));
    const { x } = createPublicKey(key).export({ format: "jwk" });
    const raw = new Uint8Array(Buffer.from(x as string, "base64url"));
    return {
      privateKey: await subtle.importKey("pkcs8", der, { name: "Ed25519" }, false, ["sign"]),
      publicKey: await subtle.importKey("raw", raw, { name: "Ed25519" }, true, ["verify"]),
    };
  };
  return { load: pair, save: () => Promise.resolve() };
}

/** A key that is gone with the process. */
export const NO_STORE: KeyStore = { load: () => Promise.resolve(null), save: () => Promise.resolve() };
