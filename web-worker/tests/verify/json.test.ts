import { describe, expect, it } from "vitest";
import { canonical, FormError, type JsonMap, load } from "../../src/verify/json.ts";

const plain = (text: string): unknown => JSON.parse(JSON.stringify(load(text)));
const refusal = (text: string | Uint8Array): string => {
  try {
    load(text);
  } catch (error) {
    if (error instanceof FormError) return error.message;
    throw error;
  }
  return "nothing was refused";
};
const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

describe("a document", () => {
  it.each([
    '{"a":[1,-2,0,null,"x",{"b":[]},{}]}',
    ' \n\t\r{ "a" : [ 1 , 2 ] , "b" : { } } ',
    '{"a":"\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83C\\uDF00é🌀"}',
    '{"a":9007199254740991,"b":-9007199254740991}',
    '{"":0,"constructor":1,"toString":2}',
    '{"a":"\u2028\u007f"}',
  ])("is read as JSON.parse reads it: %s", (text) => {
    expect(plain(text)).toEqual(JSON.parse(text));
    expect(plain(text)).toEqual(JSON.parse(JSON.stringify(load(utf8(text)))));
  });

  it("keeps a key that objects have a meaning for", () => {
    const map = load('{"__proto__":{"x":1}}');
    expect(Object.keys(map)).toEqual(["__proto__"]);
    expect(canonical(map)).toBe('{"__proto__":{"x":1}}');
    expect(({} as { x?: unknown }).x).toBeUndefined();
  });

  it.each([
    ['{"a":1,"a":1}', "twice"],
    ['{"a":1,"\\u0061":2}', "twice"],
    ['{"__proto__":1,"__proto__":1}', "twice"],
    ['{"b":{"a":1,"a":1}}', "twice"],
    ['{"a":1.0}', "fraction"],
    ['{"a":1e3}', "fraction"],
    ['{"a":-0.0}', "fraction"],
    ['{"a":9007199254740992}', "too large"],
    ['{"a":-9007199254740993}', "too large"],
    [`{"a":${"9".repeat(400)}}`, "too large"],
    ['{"a":true}', "only maps"],
    ['{"a":false}', "only maps"],
    ['{"a":"\\ud800"}', "surrogate"],
    ['{"a":"\\ude00\\ud83c"}', "surrogate"],
    ['{"\\ud800":1}', "surrogate"],
    ['{"é":1}', "ASCII"],
    ["[]", "object"],
    ["1", "object"],
    ["\ufeff{}", "byte order mark"],
    [`${'{"a":'.repeat(9)}1${"}".repeat(9)}`, "deeper"],
    [`${'{"a":'.repeat(100_000)}`, "deeper"],
    ["", "no JSON"],
    ["{", "no JSON"],
    ['{"a"}', "no JSON"],
    ['{"a":1,}', "no JSON"],
    ['{"a":[1,]}', "no JSON"],
    ['{"a":01}', "no JSON"],
    ['{"a":+1}', "no JSON"],
    ['{"a":NaN}', "no JSON"],
    ['{"a":"\n"}', "no JSON"],
    ['{"a":"\\x41"}', "no JSON"],
    ['{"a":"\\u12g4"}', "no JSON"],
    ['{"a":"', "no JSON"],
    ["{'a':1}", "no JSON"],
    ['{"a":1}x', "no JSON"],
    ['{"a":1}{}', "no JSON"],
  ])("is refused: %s", (text, said) => {
    expect(refusal(text)).toContain(said);
  });

  it("is UTF-8", () => {
    expect(refusal(new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x7d]))).toContain("UTF-8");
    expect(refusal(new Uint8Array([0x7b, 0x22, 0xed, 0xa0, 0x80, 0x22, 0x7d]))).toContain("UTF-8");
    expect(refusal(new Uint8Array([0xff, 0xfe, 0x7b, 0, 0x7d, 0]))).toContain("UTF-8");
    expect(refusal(new Uint8Array([0xef, 0xbb, 0xbf, 0x7b, 0x7d]))).toContain("byte order mark");
  });

  it("may be eight levels deep, with nothing below", () => {
    const deep = (inner: string): string => `${'{"a":'.repeat(8)}${inner}${"}".repeat(8)}`;
    expect(refusal(deep("1"))).toBe("nothing was refused");
    expect(refusal(deep("{}"))).toBe("nothing was refused");
    expect(refusal(deep("[1]"))).toContain("deeper");
  });
});

describe("the canonical form", () => {
  it("has sorted keys, no white space, and the escapes of RFC 8785", () => {
    const string = '"\\u0001\\u000f\\b\\t\\n\\f\\r\\u007f\\u2028\\u00e9\\/\\\\\\""';
    const text = `{ "b" : ${string} , "a" : [ 3, -0, null, { } ] , "10":1, "9":2, "B":0 }`;
    expect(canonical(load(text))).toBe(
      '{"10":1,"9":2,"B":0,"a":[3,0,null,{}],"b":"\\u0001\\u000f\\b\\t\\n\\f\\r\u007f\u2028é/\\\\\\""}',
    );
  });

  it("is read as itself", () => {
    const map: JsonMap = load('{"z":[{"y":1,"x":"🌀"}],"a":null}');
    expect(canonical(load(canonical(map)))).toBe(canonical(map));
  });
});
