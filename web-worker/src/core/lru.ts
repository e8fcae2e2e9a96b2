/**
 * A map bounded by bytes that drops the least recently used entries. Pinned entries stay, even past the bound:
 * work that has started can't lose its operands.
 */
type Slot<V> = { value: V; bytes: number; pins: number };

export class LruBytes<V> {
  readonly #slots = new Map<string, Slot<V>>();
  readonly #dropped: (value: V) => void;
  bytes = 0;
  pinnedBytes = 0;

  constructor(
    readonly capacity: number,
    dropped: (value: V) => void,
  ) {
    this.#dropped = dropped;
  }

  get size(): number {
    return this.#slots.size;
  }

  has(key: string): boolean {
    return this.#slots.has(key);
  }

  /** The value, made the most recently used. */
  get(key: string): V | undefined {
    const slot = this.#slots.get(key);
    if (slot === undefined) return undefined;
    this.#slots.delete(key);
    this.#slots.set(key, slot);
    return slot.value;
  }

  /** Adds a new key with `pins` pins; call `trim` once everything that belongs together is pinned. */
  add(key: string, value: V, bytes: number, pins = 0): void {
    if (this.#slots.has(key)) throw new Error(`key ${key} is in the cache already`);
    this.#slots.set(key, { value, bytes, pins });
    this.bytes += bytes;
    if (pins > 0) this.pinnedBytes += bytes;
  }

  pin(key: string): void {
    const slot = this.#slots.get(key);
    if (slot === undefined) throw new Error(`no key ${key} to pin`);
    if (slot.pins++ === 0) this.pinnedBytes += slot.bytes;
  }

  unpin(key: string): void {
    const slot = this.#slots.get(key);
    if (slot === undefined || slot.pins === 0) throw new Error(`key ${key} is not pinned`);
    if (--slot.pins === 0) this.pinnedBytes -= slot.bytes;
  }

  delete(key: string): void {
    const slot = this.#slots.get(key);
    if (slot === undefined) return;
    this.#slots.delete(key);
    this.bytes -= slot.bytes;
    if (slot.pins > 0) this.pinnedBytes -= slot.bytes;
    this.#dropped(slot.value);
  }

  /** Drops unpinned entries, oldest first, until at most `limit` bytes are held (or only pinned ones are). */
  trim(limit = this.capacity): void {
    if (this.bytes <= limit) return;
    for (const [key, slot] of this.#slots) {
      if (slot.pins > 0) continue;
      this.delete(key);
      if (this.bytes <= limit) return;
    }
  }
}
