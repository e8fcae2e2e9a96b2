/** Ed25519 signatures by WebCrypto, with what its implementations differ in decided here. */
import { fromHex } from "./bytes.ts";

/** The y coordinates of points of small order, in each of their spellings, without the sign bit: under such a key
 * anything is signed by anybody. */
const SMALL_ORDER = new Set([
  "0000000000000000000000000000000000000000000000000000000000000000",
  "0100000000000000000000000000000000000000000000000000000000000000",
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]);

function isSmall(point: string): boolean {
  const last = parseInt(point.slice(62), 16) & 0x7f;
  return SMALL_ORDER.has(point.slice(0, 62) + last.toString(16).padStart(2, "0"));
}

const SIGNATURE = /^[0-9a-f]{128}$/;

/** key: 64 hex digits. sig: any text. */
export async function verifies(
  subtle: SubtleCrypto,
  key: string,
  sig: string,
  message: Uint8Array<ArrayBuffer>,
): Promise<boolean> {
  if (!SIGNATURE.test(sig) || isSmall(key) || isSmall(sig.slice(0, 64))) return false;
  let imported: CryptoKey;
  try {
    imported = await subtle.importKey("raw", fromHex(key), { name: "Ed25519" }, false, ["verify"]);
  } catch (error) {
    // Some implementations look at once whether the key is a point.
    if (error instanceof DOMException && error.name === "DataError") return false;
    throw error;
  }
  return subtle.verify({ name: "Ed25519" }, imported, fromHex(sig), message);
}

/** Test 1 of RFC 8032 §7.1: the signature of no bytes. */
const KEY = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
const SIG =
  "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155" +
  "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";

/** What is lacking to check signatures here, in words; null where nothing is. */
export async function lacking(subtle: SubtleCrypto | undefined): Promise<string | null> {
  const instead = "Until then `shardy verify` checks the receipt on your machine.";
  if (subtle === undefined) {
    return `Browsers check signatures only on pages opened over https, or on localhost: open this one so. ${instead}`;
  }
  const none = new Uint8Array(0);
  const checked = async (sig: string): Promise<boolean> => verifies(subtle, KEY, sig, none);
  try {
    if ((await checked(SIG)) && !(await checked(SIG.replace("e5", "e4")))) return null;
  } catch {
    // An algorithm that is not known.
  }
  const since = "Chrome and Edge can since 137, Firefox since 129, Safari since 17.";
  return `This browser can't check Ed25519 signatures. ${since} ${instead}`;
}
