/** Where a job's next task must start: tiles go down a band of columns, then down the next (docs/adr/0003). */

export class Cursor {
  #row0 = 0;
  #col0 = 0;
  /** Width of the band in progress, 0 between two bands. */
  #bandCols = 0;

  /** rows, cols: of the whole result. */
  constructor(
    readonly rows: number,
    readonly cols: number,
  ) {}

  /** Takes the tile if it is the next. */
  take(tile: readonly number[]): boolean {
    const [row0, rows, col0, cols] = tile as [number, number, number, number];
    const isNext =
      row0 === this.#row0 &&
      col0 === this.#col0 &&
      (this.#bandCols === 0 || this.#bandCols === cols) &&
      rows > 0 &&
      cols > 0 &&
      row0 + rows <= this.rows &&
      col0 + cols <= this.cols;
    if (!isNext) return false;
    if (row0 + rows >= this.rows) [this.#row0, this.#col0, this.#bandCols] = [0, col0 + cols, 0];
    else [this.#row0, this.#bandCols] = [row0 + rows, cols];
    return true;
  }

  get done(): boolean {
    return this.#col0 >= this.cols;
  }
}
