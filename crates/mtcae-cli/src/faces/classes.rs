//! Names of expressions, which datasets and models spell in many ways.

/// Names that are read as one: the first of a row is shown.
const NAMES: [&[&str]; 8] = [
    // RAVDESS has calm beside neutral; who looks at a face cannot tell.
    &["neutral", "calm"],
    &["happy", "happiness", "joy", "joyful", "smile"],
    &["sad", "sadness"],
    &["angry", "anger"],
    &["fear", "fearful", "afraid", "scared"],
    &["disgust", "disgusted"],
    &["surprise", "surprised"],
    &["contempt", "contemptuous"],
];

/// The name that an expression has here; that of one that is not known, in lower case.
pub fn common(name: &str) -> String {
    let name = name.trim().to_lowercase();
    let row = NAMES.iter().find(|row| row.contains(&name.as_str()));
    row.map_or(name, |row| row[0].to_owned())
}

/// Names, each once, in the order of the table; others after it, by their letters.
pub fn ordered(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let place = |name: &String| NAMES.iter().position(|row| row[0] == name);
    let mut names: Vec<String> = names.into_iter().collect();
    names.sort_by_key(|name| (place(name).unwrap_or(NAMES.len()), name.clone()));
    names.dedup();
    names
}

/// A model's probabilities of classes by their common names: those that are read as one are
/// added.
pub fn gathered(of: &[(String, f64)], names: &[String]) -> Vec<f64> {
    let sum = |name: &String| {
        of.iter()
            .filter(|p| common(&p.0) == *name)
            .map(|p| p.1)
            .sum()
    };
    names.iter().map(sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_are_one_and_calm_is_neutral() {
        let said = ["Fearful", " sadness ", "calm", "Joy", "pain"].map(common);
        assert_eq!(said, ["fear", "sad", "neutral", "happy", "pain"]);
        let names = ordered(["sadness", "pain", "awe", "calm", "neutral"].map(common));
        assert_eq!(names, ["neutral", "sad", "awe", "pain"]);
        let of = [
            ("calm", 0.2),
            ("neutral", 0.3),
            ("sad", 0.4),
            ("contempt", 0.1),
        ];
        let of = of.map(|(name, p)| (name.to_owned(), p));
        assert_eq!(gathered(&of, &names), [0.5, 0.4, 0.0, 0.0]);
    }
}
