/** How the sums of a proof are cut into slices, and what its steps cost, for progress. */
import { SECTION } from "./zkey.ts";

/** Below this many points a slice costs more than it saves: the sums share work among their points. */
const POINTS_MIN = 2_048;

/** Points [first, first+count) of a section. */
export type Slice = { section: number; first: number; count: number; cost: number };

/** Time for a point, as a multiple of one of section A: measured at 32×32×32, whose scalars are bits to a third. */
const COST: Record<number, number> = {
  [SECTION.a]: 1,
  [SECTION.b1]: 1,
  [SECTION.b2]: 2,
  [SECTION.c]: 1,
  [SECTION.h]: 1.5,
};
/** Likewise: solving for a wire, the quotient for a row of the domain. */
export const SOLVE_COST = 0.25;
export const QUOTIENT_COST = 0.7;

/** Everything that is summed for a proof before the quotient is known, the longest first; and what is summed after. */
export const BEFORE = [SECTION.b2, SECTION.a, SECTION.b1, SECTION.c] as const;

/**
 * A section of `count` points for so many instances. A single one takes it whole, which costs least; more get one slice
 * each, and two of the last section, so that a slower one takes fewer and all end at about the same time.
 */
export function slicesOf(section: number, count: number, instances: number): Slice[] {
  const wanted = instances > 1 && section === SECTION.h ? 2 * instances : instances;
  const pieces = Math.max(1, Math.min(wanted, Math.floor(count / POINTS_MIN)));
  const bounds = Array.from({ length: pieces + 1 }, (_, piece) => Math.round((count * piece) / pieces));
  return bounds.slice(1).map((end, piece) => {
    const first = bounds[piece] as number;
    return { section, first, count: end - first, cost: (end - first) * (COST[section] ?? 1) };
  });
}
