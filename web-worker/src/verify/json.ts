/**
 * JSON read strictly, and its canonical form. `JSON.parse` takes the last of two equal keys and rounds integers in
 * silence; what two readers can take differently is refused here, as libs/shardy_common/receipts/checking.py does.
 *
 * Objects have no prototype, so a key as `__proto__` is a key like others.
 */

export type Json = null | boolean | number | string | Json[] | JsonMap;
export type JsonMap = { [key: string]: Json };

/** What is wrong with the form of a document, in words for people. */
export class FormError extends Error {}

export type Rules = {
  /** Depth at which a value may stand, the document's own being 0. */
  depthMax: number;
  /** Depth at which an object or a list may stand. */
  nestedMax: number;
  integer(text: string): number;
  booleans: boolean;
  asciiKeys: boolean;
};

const DEPTH_MAX = 8;

function safe(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value)) {
    throw new FormError(`${text.slice(0, 40)} is too large for an integer: 2⁵³ − 1 is the largest`);
  }
  return value === 0 ? 0 : value; // −0 is 0
}

export const RECEIPT: Rules = {
  depthMax: DEPTH_MAX,
  nestedMax: DEPTH_MAX,
  integer: safe,
  booleans: false,
  asciiKeys: true,
};

const BLANK = /[ \t\n\r]*/y;
const INTEGER = /-?(?:0|[1-9][0-9]*)/y;
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const HEX4 = /[0-9a-fA-F]{4}/y;
const LONE_SURROGATE = /[\ud800-\udfff]/u;
const ASCII = /^[\u0000-\u007f]*$/;
const ESCAPES: Readonly<Record<string, string>> = {
  '"': '"',
  "\\": "\\",
  "/": "/",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
};

class Reader {
  #at = 0;

  constructor(
    readonly text: string,
    readonly rules: Rules,
  ) {}

  document(): Json {
    const value = this.#value(0);
    this.#match(BLANK);
    if (this.#at < this.text.length) throw this.#error("something stands after the end of the document");
    return value;
  }

  #value(depth: number): Json {
    this.#match(BLANK);
    const first = this.text[this.#at];
    if (depth > this.rules.depthMax || ((first === "{" || first === "[") && depth > this.rules.nestedMax)) {
      throw new FormError(`it is nested deeper than ${this.rules.depthMax} levels`);
    }
    if (first === "{") return this.#map(depth);
    if (first === "[") return this.#list(depth);
    if (first === '"') return this.#string();
    if (this.#word("null")) return null;
    for (const word of ["true", "false"] as const) {
      if (!this.#word(word)) continue;
      if (!this.rules.booleans) {
        throw new FormError(`${word}: only maps, lists, strings, integers and null are possible`);
      }
      return word === "true";
    }
    return this.#number();
  }

  #map(depth: number): JsonMap {
    const map = Object.create(null) as JsonMap;
    this.#at += 1;
    this.#match(BLANK);
    if (this.#taken("}")) return map;
    for (;;) {
      this.#match(BLANK);
      if (this.text[this.#at] !== '"') throw this.#error("a key in quotes is missing");
      const key = this.#string();
      if (this.rules.asciiKeys && !ASCII.test(key)) throw new FormError("keys are ASCII strings");
      if (key in map) throw new FormError(`the key ${JSON.stringify(key)} stands twice in one object`);
      this.#match(BLANK);
      if (!this.#taken(":")) throw this.#error("a colon is missing");
      map[key] = this.#value(depth + 1);
      this.#match(BLANK);
      if (this.#taken("}")) return map;
      if (!this.#taken(",")) throw this.#error("a comma or the end of an object is missing");
    }
  }

  #list(depth: number): Json[] {
    const list: Json[] = [];
    this.#at += 1;
    this.#match(BLANK);
    if (this.#taken("]")) return list;
    for (;;) {
      list.push(this.#value(depth + 1));
      this.#match(BLANK);
      if (this.#taken("]")) return list;
      if (!this.#taken(",")) throw this.#error("a comma or the end of a list is missing");
    }
  }

  #string(): string {
    this.#at += 1;
    let value = "";
    for (;;) {
      value += this.#match(PLAIN) ?? "";
      const stop = this.text[this.#at];
      this.#at += 1;
      if (stop === '"') break;
      if (stop !== "\\") throw this.#error("a string has no end, or holds a control character");
      value += this.#escaped();
    }
    if (LONE_SURROGATE.test(value)) throw new FormError("a string holds half of a character (a lone surrogate)");
    return value;
  }

  #escaped(): string {
    const kind = this.text[this.#at] ?? "";
    this.#at += 1;
    const plain = ESCAPES[kind];
    if (plain !== undefined) return plain;
    const code = kind === "u" ? this.#match(HEX4) : null;
    if (code === null) throw this.#error("an escape in a string is none of JSON's");
    return String.fromCharCode(parseInt(code, 16));
  }

  #number(): number {
    const text = this.#match(INTEGER);
    if (text === null) throw this.#error("a value is missing, or is none of JSON's");
    if (/[.eE]/.test(this.text[this.#at] ?? "")) throw new FormError("a number is a fraction: none is allowed");
    return this.rules.integer(text);
  }

  #match(pattern: RegExp): string | null {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.text);
    if (found === null) return null;
    this.#at = pattern.lastIndex;
    return found[0];
  }

  #taken(sign: string): boolean {
    if (this.text[this.#at] !== sign) return false;
    this.#at += 1;
    return true;
  }

  #word(word: string): boolean {
    if (!this.text.startsWith(word, this.#at)) return false;
    this.#at += word.length;
    return true;
  }

  #error(what: string): FormError {
    return new FormError(`this is no JSON: ${what}, at character ${this.#at}`);
  }
}

export const parsed = (text: string, rules: Rules): Json => new Reader(text, rules).document();

export const isMap = (value: unknown): value is JsonMap =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** A receipt's document. FormError for what JSON readers take differently, and for what is no object. */
export function load(data: Uint8Array | string): JsonMap {
  let text = data;
  if (typeof text !== "string") {
    try {
      text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(text);
    } catch {
      throw new FormError("it is not UTF-8");
    }
  }
  if (text.startsWith("\ufeff")) throw new FormError("it begins with a byte order mark: save it as UTF-8 without one");
  const value = parsed(text, RECEIPT);
  if (!isMap(value)) throw new FormError("a receipt is a JSON object");
  return value;
}

/** Sorted keys and no white space: RFC 8785 for what `load` gives. In bytes it is UTF-8. */
export function canonical(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (!isMap(value)) return JSON.stringify(value);
  const keys = Object.keys(value).sort();
  return `{${keys.map((key) => `${JSON.stringify(key)}:${canonical(value[key] as Json)}`).join(",")}}`;
}
