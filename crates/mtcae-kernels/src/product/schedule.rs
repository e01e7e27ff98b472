//! How work is cut into tasks so that no thread waits for the others: pure functions of
//! shapes and of the number of threads.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

/// What [`search`] has found: a model asks for the same few shapes again and again.
static FOUND: LazyLock<Mutex<Cuts>> = LazyLock::new(Mutex::default);

/// By rows, columns, most rows and threads.
type Cuts = HashMap<[usize; 4], (usize, usize)>;

/// Tasks that a thread is to have at least: where another program takes its core for a
/// while, others take over what it has not begun.
const TASKS: usize = 2;

/// Into how many parts the panels of a result's rows and of its columns are cut, one
/// task each: the first whose [`idle`] time is below a hundredth, tried from few parts of
/// the columns to many, else the least idle.
/// No part has more than `most` panels of rows, which are to stay in a cache; each part
/// of the rows reads all columns, and each part of the columns all rows.
pub(crate) fn cut(rows: usize, cols: usize, most: usize, threads: usize) -> (usize, usize) {
    let shape = [rows, cols, most, threads];
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    *found.entry(shape).or_insert_with(|| search(shape))
}

fn search([rows, cols, most, threads]: [usize; 4]) -> (usize, usize) {
    let least = rows.div_ceil(most.max(1)).max(1);
    if threads <= 1 || rows == 0 || cols == 0 {
        return (least, 1);
    }
    let most_down = rows.min(least + 4 * threads);
    let mut best = (f64::INFINITY, (least, 1));
    for across in 1..=cols.min(TASKS * threads) {
        for down in least..=most_down {
            if down * across < TASKS * threads.min(rows * cols / TASKS) {
                continue;
            }
            // Some thread has as many tasks as this, and they are no smaller.
            let tasks = (down * across).div_ceil(threads);
            let last = tasks * (rows / down) * (cols / across);
            let least = 1.0 - (rows * cols) as f64 / (last * threads).max(1) as f64;
            if least >= best.0 {
                continue;
            }
            let idle = idle(rows, cols, (down, across), threads);
            if idle < best.0 {
                best = (idle, (down, across));
            }
            if idle < 0.01 {
                return best.1;
            }
        }
    }
    best.1
}

/// The share of the threads' time that they wait for the last of them, where each takes
/// a task when it is done with one and a task lasts as long as its panels are many.
pub(crate) fn idle(
    rows: usize,
    cols: usize,
    (down, across): (usize, usize),
    threads: usize,
) -> f64 {
    let mut ends = vec![0; threads.max(1)];
    let size = |n: usize, parts: usize, i: usize| part(n, parts, i).len();
    for i in 0..down * across {
        let first = ends.iter_mut().min();
        if let Some(end) = first {
            *end += size(rows, down, i % down) * size(cols, across, i / down);
        }
    }
    let last = ends.iter().max().copied().unwrap_or(0);
    1.0 - (rows * cols) as f64 / (last * ends.len()).max(1) as f64
}

/// Part `i` of `n` things in nearly equal parts.
pub(crate) fn part(n: usize, parts: usize, i: usize) -> std::ops::Range<usize> {
    n * i / parts..n * (i + 1) / parts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows, columns and most rows in panels of each micro-kernel.
    const KERNELS: [(usize, usize, usize); 4] =
        [(6, 16, 32), (14, 32, 13), (32, 32, 13), (2, 16, 96)];

    #[test]
    fn no_thread_waits_for_more_than_a_fiftieth_of_its_time() {
        // Outputs of the layers of ViT-S, B and L and of the cascade.
        let outputs = [
            384usize, 512, 528, 768, 1024, 1152, 1536, 2048, 2304, 3072, 4096, 5280,
        ];
        for (rows, cols, most) in KERNELS {
            for n in outputs {
                for (clips, threads) in [1, 4]
                    .into_iter()
                    .flat_map(|clips| [1, 2, 4, 8, 16].map(|threads| (clips, threads)))
                {
                    let (down, across) = ((clips * 1568usize).div_ceil(rows), n.div_ceil(cols));
                    let cut = cut(down, across, most, threads);
                    let idle = idle(down, across, cut, threads);
                    assert!(
                        idle <= 0.02,
                        "{clips}·1568×{n} in panels of {rows}×{cols} on {threads} threads: {cut:?} leaves {:.1} % idle",
                        100.0 * idle
                    );
                    assert!(down.div_ceil(cut.0) <= most);
                }
            }
        }
    }

    #[test]
    fn parts_are_all_there_is_and_none_is_empty() {
        for (rows, cols) in [(1, 1), (1, 7), (5, 1), (3, 300), (262, 192)] {
            for threads in [1, 2, 3, 64] {
                let (down, across) = cut(rows, cols, 32, threads);
                assert!(down <= rows && across <= cols, "{rows}×{cols} on {threads}");
                let all: usize = (0..down).map(|i| part(rows, down, i).len()).sum();
                assert_eq!(all, rows);
            }
        }
    }
}
