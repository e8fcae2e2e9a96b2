/** What a proof takes of a device's memory, as measured, and so which circuits a device may prove. */

const MIB = 2 ** 20;

/**
 * MiB by circuit: `one` for the first proof with one instance, reading an .r1cs included; `more` for each further one.
 *
 * The larger of what Chromium's processes (renderers, and the browser, which holds Blobs) and Node's process grew by at
 * their peak, rounded up: key, witness and quotient, linear memory, copies on their way, and each worker's own heap.
 * Measured with development keys; a key of a ceremony has the same sizes.
 */
export const MEASURED: Readonly<Record<string, { one: number; more: number }>> = {
  "v2-8x8x8": { one: 100, more: 12 },
  "v2-16x16x16": { one: 125, more: 12 },
  "v2-32x32x32": { one: 200, more: 18 },
  "v2-64x64x64": { one: 550, more: 46 },
  "v2-8x384x8": { one: 310, more: 32 },
};

/** Bytes at the peak with this many instances. RangeError for a circuit that was not measured. */
export function needBytes(circuit: string, instances: number): number {
  const found = Object.hasOwn(MEASURED, circuit) ? MEASURED[circuit] : undefined;
  if (found === undefined) throw new RangeError(`nobody measured what ${circuit} takes`);
  return (found.one + (instances - 1) * found.more) * MIB;
}

/** How many instances fit, at most `cores`; 0 where not even one does, or nobody measured the circuit. */
export function instancesFor(circuit: string, memoryBytes: number, cores: number): number {
  if (!Object.hasOwn(MEASURED, circuit)) return 0;
  let instances = 0;
  while (instances < cores && needBytes(circuit, instances + 1) <= memoryBytes) instances += 1;
  return instances;
}

/** Whether a device of this tier may prove the circuit. */
export const fits = (circuit: string, tierMemoryBytes: number): boolean =>
  instancesFor(circuit, tierMemoryBytes, 1) === 1;
