//! Between two places in time: which samples lie around, and how far one is from the
//! first to the second.

/// How far `at` is from `from` to `to`, in [0, 1] between them; 0 where they are one place.
pub fn share(from: f64, to: f64, at: f64) -> f32 {
    match to > from {
        true => ((at - from) / (to - from)) as f32,
        false => 0.0,
    }
}

/// The last item before `at` and the first that is not, of items whose places grow; what
/// lies at `at` itself is the second. `None` where there is none on that side.
pub fn around<T>(items: &[T], at: f64, place: impl Fn(&T) -> f64) -> (Option<&T>, Option<&T>) {
    let after = items.partition_point(|item| place(item) < at);
    let before = after.checked_sub(1).and_then(|i| items.get(i));
    (before, items.get(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_around() {
        let items = [1u32, 4];
        let around = |at| around(&items, at, |&i| i.into());
        assert_eq!(around(0.0), (None, Some(&1)));
        assert_eq!(around(1.0), (None, Some(&1)));
        assert_eq!(around(2.5), (Some(&1), Some(&4)));
        assert_eq!(around(4.0), (Some(&1), Some(&4)));
        assert_eq!(around(4.5), (Some(&4), None));
        assert_eq!((share(1.0, 4.0, 2.5), share(1.0, 1.0, 1.0)), (0.5, 0.0));
    }
}
