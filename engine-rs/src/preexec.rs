//! Clamp, EMA and quantise fused: x is read from memory once, and what lies between stays in the caches.

use crate::check::{self, input, ok, output, BAD_ARGUMENT, OUT_OF_MEMORY};
use crate::memory::Scratch;
use crate::rows::{self, Filter};
use crate::scale;
use crate::stream::{GROUPS, TOGETHER};

/// What to compute on x[rows_in, cols], and where to put it.
struct Job {
    x: *const f32,
    rows_in: usize,
    warm_rows: usize,
    cols: usize,
    filter: Filter,
    tensor_absmax: f32,
    q: *mut i8,
    scale: *mut f32,
}

impl Job {
    /// Quantises one finished row of values into output row `row`.
    unsafe fn finish(&self, y: *const f32, row: usize, max: f32) {
        let q = self.q.add(row * self.cols);
        *self.scale.add(row) = scale::quantise_row(y, q, self.cols, max, self.tensor_absmax);
    }

    unsafe fn without_ema(&self) -> Option<()> {
        let line = Scratch::<f32>::new(self.cols)?;
        for row in self.warm_rows..self.rows_in {
            let max = rows::clamp(self.x.add(row * self.cols), line.ptr(), self.cols, self.filter);
            self.finish(line.ptr(), row - self.warm_rows, max);
        }
        Some(())
    }

    unsafe fn down_the_rows(&self) -> Option<()> {
        let line = Scratch::<f32>::new(self.cols)?;
        for row in 0..self.rows_in {
            let x = self.x.add(row * self.cols);
            let max = if row == 0 {
                rows::clamp(x, line.ptr(), self.cols, self.filter)
            } else {
                rows::ema_step::<true>(x, line.ptr(), line.ptr(), self.cols, self.filter)
            };
            if row >= self.warm_rows {
                self.finish(line.ptr(), row - self.warm_rows, max);
            }
        }
        Some(())
    }

    unsafe fn along_the_rows(&self) -> Option<()> {
        let lines = Scratch::<f32>::new(self.cols * TOGETHER)?;
        let mut maxima = [0.0; TOGETHER];
        let rows = self.rows_in - self.warm_rows;
        let x = self.x.add(self.warm_rows * self.cols);
        let whole = rows / TOGETHER * TOGETHER;
        for row in (0..whole).step_by(TOGETHER) {
            let from = x.add(row * self.cols);
            rows::ema_along_many::<GROUPS, true>(from, lines.ptr(), self.cols, self.filter, maxima.as_mut_ptr());
            for (lane, max) in maxima.iter().enumerate() {
                self.finish(lines.ptr().add(lane * self.cols), row + lane, *max);
            }
        }
        for row in whole..rows {
            let max = rows::ema_along::<true>(x.add(row * self.cols), lines.ptr(), self.cols, self.filter);
            self.finish(lines.ptr(), row, max);
        }
        Some(())
    }
}

/// Steps 1 to 3 of docs/protocol.md §4.3 over one segment (axis 0) or any rows (axis −1, 1).
///
/// x f32[rows_in·cols] is not changed. Its first `warm_rows` ≤ rows_in rows only feed the EMA of axis 0 and are
/// passed over otherwise. Writes q i8[(rows_in−warm_rows)·cols] and scale f32[rows_in−warm_rows]; neither overlaps x
/// or the other. `tensor_absmax` < 0: a scale per row, else that m for all rows.
///
/// # Safety
/// The arrays have those sizes.
#[no_mangle]
#[allow(clippy::too_many_arguments)]
pub unsafe extern "C" fn preexec_f32(
    x: *const f32,
    rows_in: u32,
    warm_rows: u32,
    cols: u32,
    lo: f32,
    hi: f32,
    axis: i32,
    alpha: f32,
    tensor_absmax: f32,
    q: *mut i8,
    scale: *mut f32,
) -> i32 {
    if warm_rows > rows_in || !tensor_absmax.is_finite() {
        return BAD_ARGUMENT;
    }
    let rows = u64::from(rows_in - warm_rows);
    let width = u64::from(cols);
    let regions = [input(x, u64::from(rows_in) * width), output(q, rows * width), output(scale, rows)];
    let checked = check::bounds(lo, hi).and_then(|()| check::ema(axis, alpha)).and_then(|()| check::regions(&regions));
    if let Err(code) = checked {
        return code;
    }
    let job = Job {
        x,
        rows_in: rows_in as usize,
        warm_rows: warm_rows as usize,
        cols: cols as usize,
        filter: Filter { lo, hi, alpha },
        tensor_absmax,
        q,
        scale,
    };
    let done = match axis {
        0 => job.down_the_rows(),
        1 => job.along_the_rows(),
        _ => job.without_ema(),
    };
    done.map_or(OUT_OF_MEMORY, |()| ok())
}
