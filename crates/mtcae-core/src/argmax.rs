//! The most probable of several.

/// The place of the largest value, the first of equals; `None` of none.
pub fn argmax<T: PartialOrd>(values: impl IntoIterator<Item = T>) -> Option<usize> {
    let places = values.into_iter().enumerate();
    let best = places.reduce(|a, b| if b.1 > a.1 { b } else { a });
    best.map(|(place, _)| place)
}
