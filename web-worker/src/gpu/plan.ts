/** How one product is cut for the GPU: into blocks that fit its buffers, and blocks into slices of about 100 ms. */

export type Block = { row0: number; rows: number; col0: number; cols: number };
export type Slice = { tileRow: number; tileCol: number; tilesM: number; tilesN: number };

export const SLICE_MS = 100;
const DISPATCH_MAX = 65_535;

export const kvOf = (k: number): number => Math.ceil(k / 16);

/**
 * Blocks of C whose A rows, B rows and sums each fit `limitBytes`; one block where the whole product fits.
 * Null where not even one row and column fit (k is then over what a buffer holds).
 */
export function planBlocks(m: number, n: number, k: number, limitBytes: number): Block[] | null {
  const operandRows = Math.floor(limitBytes / (kvOf(k) * 16));
  if (operandRows < 1 || limitBytes < 4) return null;
  const cols = Math.min(n, operandRows);
  const rows = Math.min(m, operandRows, Math.max(1, Math.floor(limitBytes / (4 * cols))));
  const blocks: Block[] = [];
  const colStep = Math.min(cols, Math.floor(limitBytes / 4));
  for (let col0 = 0; col0 < n; col0 += colStep) {
    for (let row0 = 0; row0 < m; row0 += rows) {
      blocks.push({ row0, rows: Math.min(rows, m - row0), col0, cols: Math.min(colStep, n - col0) });
    }
  }
  return blocks;
}

/** Rectangles of tiles, in order, each worth at most `tilesMax` tiles and within the dispatch limits. */
export function planSlices(tilesM: number, tilesN: number, tilesMax: number): Slice[] {
  const most = Math.max(1, Math.floor(tilesMax));
  const wide = Math.min(tilesN, most, DISPATCH_MAX);
  const high = Math.max(1, Math.min(tilesM, Math.floor(most / wide), DISPATCH_MAX));
  const slices: Slice[] = [];
  for (let tileRow = 0; tileRow < tilesM; tileRow += high) {
    for (let tileCol = 0; tileCol < tilesN; tileCol += wide) {
      slices.push({
        tileRow,
        tileCol,
        tilesM: Math.min(high, tilesM - tileRow),
        tilesN: Math.min(wide, tilesN - tileCol),
      });
    }
  }
  return slices;
}

/** Tiles that take about `SLICE_MS` at `gops` (10⁹ multiplies and adds a second). */
export function tilesPerSlice(gops: number, tileM: number, tileN: number, k: number): number {
  return (gops * 1e6 * SLICE_MS) / (2 * tileM * tileN * Math.max(k, 16));
}
