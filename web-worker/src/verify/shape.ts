/** Readers of parts of a document: each gives the value with its type, or says in a FormError what it should be. */
import { FormError, isMap, type Json } from "./json.ts";

export type Read<T> = (value: Json, at: string) => T;
type Fields = Record<string, Read<unknown>>;

export const COUNT_MAX = 2 ** 53 - 1;

export function matching(pattern: RegExp): Read<string> {
  return (value, at) => {
    if (typeof value !== "string" || !pattern.test(value)) throw new FormError(`${at} is not of the form ${pattern}`);
    return value;
  };
}

/** charsMax: in characters of Unicode. */
export function text(charsMax = Infinity): Read<string> {
  return (value, at) => {
    if (typeof value !== "string") throw new FormError(`${at} is a string`);
    if (value.length > charsMax && [...value].length > charsMax) {
      throw new FormError(`${at} has at most ${charsMax} characters`);
    }
    return value;
  };
}

export function integer(min: number, max: number): Read<number> {
  return (value, at) => {
    if (typeof value !== "number" || value < min || value > max) {
      throw new FormError(`${at} is an integer from ${min} to ${max}`);
    }
    return value;
  };
}

export function literal<T extends string | number>(wanted: T): Read<T> {
  return (value, at) => {
    if (value !== wanted) throw new FormError(`${at} is ${wanted}`);
    return wanted;
  };
}

export function nullable<T>(read: Read<T>): Read<T | null> {
  return (value, at) => (value === null ? null : read(value, at));
}

export function list<T>(item: Read<T>, min = 0, max = Infinity): Read<T[]> {
  return (value, at) => {
    if (!Array.isArray(value) || value.length < min || value.length > max) {
      throw new FormError(`${at} is a list of ${min === max ? min : `${min} to ${max}`}`);
    }
    return value.map((entry, index) => item(entry, `${at}[${index}]`));
  };
}

export function mapOf<T>(item: Read<T>): Read<Map<string, T>> {
  return (value, at) => {
    if (!isMap(value)) throw new FormError(`${at} is an object`);
    return new Map(Object.entries(value).map(([key, entry]) => [key, item(entry, `${at}.${key}`)]));
  };
}

/** An object with just these fields. */
export function fields<F extends Fields>(shape: F): Read<{ [K in keyof F]: ReturnType<F[K]> }> {
  const names = Object.keys(shape);
  return (value, at) => {
    if (!isMap(value)) throw new FormError(`${at} is an object`);
    const more = Object.keys(value).find((name) => !names.includes(name));
    if (more !== undefined) throw new FormError(`${at} has no field ${more}`);
    const found = names.map((name) => {
      if (!(name in value)) throw new FormError(`${at} lacks the field ${name}`);
      return [name, (shape[name] as Read<unknown>)(value[name] as Json, `${at}.${name}`)];
    });
    return Object.fromEntries(found) as { [K in keyof F]: ReturnType<F[K]> };
  };
}
