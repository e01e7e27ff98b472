//! Folds for cross-validation in which no subject is twice.

use std::collections::{BTreeMap, BTreeSet};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{Sample, Sex};
use crate::Error;

/// RAVDESS's five published groups of actors (Luna-Jiménez et al., 2021).
pub const RAVDESS: [&[&str]; 5] = [
    &["02", "05", "14", "15", "16"],
    &["03", "06", "07", "13", "18"],
    &["10", "11", "12", "19", "20"],
    &["08", "17", "21", "23", "24"],
    &["01", "04", "09", "22"],
];

/// CREMA-D's five published ranges: 1001–1018, 1019–1036, 1037–1054, 1055–1072,
/// 1073–1091.
pub const CREMA_D: [std::ops::RangeInclusive<u32>; 5] = [
    1001..=1018,
    1019..=1036,
    1037..=1054,
    1055..=1072,
    1073..=1091,
];

/// MEAD's 48 published actors.
const MEAD_MEN: [u32; 27] = [
    3, 5, 7, 9, 11, 12, 13, 19, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 37, 39, 40,
    41, 42,
];
const MEAD_WOMEN: [u32; 21] = [
    9, 11, 14, 15, 16, 17, 18, 19, 21, 23, 24, 25, 26, 28, 29, 33, 35, 36, 37, 38, 40,
];

/// Our five folds of MEAD, there being none in print: men dealt to the folds in
/// the order of their numbers from the first fold, women from the last. Each has
/// 9 or 10 actors, of these 5 or 6 men.
pub fn mead() -> [Vec<String>; 5] {
    let mut folds: [Vec<String>; 5] = Default::default();
    for (i, n) in MEAD_MEN.iter().enumerate() {
        folds[i % 5].push(format!("M{n:03}"));
    }
    for (i, n) in MEAD_WOMEN.iter().enumerate() {
        folds[4 - i % 5].push(format!("W{n:03}"));
    }
    folds
}

/// Fold of a subject among groups of names.
pub fn of<T: AsRef<str>, G: AsRef<[T]>>(groups: &[G], subject: &str) -> Option<u32> {
    let holds = |g: &G| g.as_ref().iter().any(|s| s.as_ref() == subject);
    groups.iter().position(holds).map(|g| g as u32)
}

/// Fold of a CREMA-D actor.
pub fn of_crema_d(actor: u32) -> Option<u32> {
    let group = CREMA_D.iter().position(|g| g.contains(&actor));
    group.map(|g| g as u32)
}

/// Puts the samples' subjects into `k` folds, each balanced in classes and sexes
/// as the whole is, as far as whole subjects allow. The same seed gives the same
/// folds, whatever the samples' order. A sample without a subject counts as a
/// subject of its own.
///
/// Subjects go, the ones with most clips first and shuffled among equals, each to
/// the fold where it brings the counts nearest to an even share.
///
/// # Errors
/// [`Error::Config`] when there are fewer subjects than folds or `k` < 2, and
/// what [`prove`] finds.
pub fn assign(samples: &mut [Sample], k: usize, seed: u64) -> Result<(), Error> {
    let fault = |reason: String| Error::Config {
        field: "folds",
        reason,
    };
    let key = |s: &Sample| s.subject.clone().unwrap_or_else(|| s.file.clone());
    let classes: BTreeSet<Option<&str>> = samples.iter().map(|s| s.class.as_deref()).collect();
    let classes: Vec<Option<String>> = classes.iter().map(|c| c.map(str::to_owned)).collect();
    // Per subject: clips of each class, then whether female, whether male.
    let mut subjects: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for s in samples.iter() {
        let counts = subjects
            .entry(key(s))
            .or_insert_with(|| vec![0.0; classes.len() + 2]);
        if let Some(c) = classes.iter().position(|c| *c == s.class) {
            counts[c] += 1.0;
        }
        match s.sex {
            Some(Sex::Female) => counts[classes.len()] = 1.0,
            Some(Sex::Male) => counts[classes.len() + 1] = 1.0,
            None => {}
        }
    }
    if k < 2 {
        return Err(fault(format!("there must be at least 2, not {k}")));
    }
    if subjects.len() < k {
        return Err(fault(format!(
            "{k} are wanted, of {} subjects; each fold needs one or more",
            subjects.len()
        )));
    }
    let mut order: Vec<(&String, &Vec<f64>)> = subjects.iter().collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let clips = |counts: &[f64]| counts[..classes.len()].iter().sum::<f64>();
    order.sort_by(|a, b| clips(b.1).total_cmp(&clips(a.1)));
    let mut share = vec![0.0; classes.len() + 2];
    for counts in subjects.values() {
        for (share, n) in share.iter_mut().zip(counts) {
            *share += n / k as f64;
        }
    }
    let mut folds = vec![vec![0.0; share.len()]; k];
    let mut sizes = vec![0usize; k];
    let mut chosen: BTreeMap<&str, u32> = BTreeMap::new();
    let most = subjects.len().div_ceil(k);
    for (i, (subject, counts)) in order.iter().enumerate() {
        // Growth of Σ (count − share)²/share², which is 0 when all is even.
        let cost = |fold: &[f64]| -> f64 {
            let each = fold.iter().zip(counts.iter()).zip(&share);
            each.filter(|(_, share)| **share > 0.0)
                .map(|((have, add), share)| {
                    let (before, after) = (have - share, have + add - share);
                    (after * after - before * before) / (share * share)
                })
                .sum()
        };
        let empty = sizes.iter().filter(|&&n| n == 0).count();
        let left = order.len() - i;
        let best = (0..k)
            .filter(|&f| sizes[f] < most && (left > empty || sizes[f] == 0))
            .min_by(|&a, &b| cost(&folds[a]).total_cmp(&cost(&folds[b])));
        let Some(best) = best else {
            return Err(fault(format!("no fold has room for {subject}")));
        };
        for (have, add) in folds[best].iter_mut().zip(counts.iter()) {
            *have += add;
        }
        sizes[best] += 1;
        chosen.insert(subject, best as u32);
    }
    let chosen: Vec<Option<u32>> = samples
        .iter()
        .map(|s| chosen.get(&key(s)[..]).copied())
        .collect();
    for (sample, fold) in samples.iter_mut().zip(chosen) {
        sample.fold = fold;
    }
    prove(samples)
}

/// Shows that every sample has a fold and no subject is in two.
///
/// # Errors
/// [`Error::Folds`] with every subject in several folds and the number of samples
/// without one.
pub fn prove(samples: &[Sample]) -> Result<(), Error> {
    let mut folds: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    let mut without = 0;
    for s in samples {
        let Some(fold) = s.fold else {
            without += 1;
            continue;
        };
        if let Some(subject) = &s.subject {
            folds.entry(subject).or_default().insert(fold);
        }
    }
    let torn: Vec<String> = folds
        .into_iter()
        .filter(|(_, folds)| folds.len() > 1)
        .map(|(subject, folds)| {
            let folds: Vec<String> = folds.iter().map(u32::to_string).collect();
            format!("{subject} is in folds {}", folds.join(" and "))
        })
        .collect();
    if torn.is_empty() && without == 0 {
        return Ok(());
    }
    Err(Error::Folds { torn, without })
}
