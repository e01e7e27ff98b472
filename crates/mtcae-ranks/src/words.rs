//! What ranks tell each other besides vectors.

use std::sync::Arc;

use crate::Error;
use crate::group::{Block, Group};

/// Bytes that a rank may tell at once.
const LONGEST: u64 = 1 << 40;

/// What each rank tells, in their order: of any length.
///
/// # Errors
/// When a rank has failed or ended.
pub fn gather(group: &dyn Group, own: Vec<u8>) -> Result<Vec<Block>, Error> {
    let size = group.size();
    let length = Arc::new((own.len() as u64).to_le_bytes().to_vec());
    let lengths = group.exchange(vec![length; size], vec![8; size])?.wait()?;
    let lengths = lengths.iter().enumerate().map(|(r, l)| number(r, l));
    let lengths = lengths.collect::<Result<Vec<_>, _>>()?;
    let own = Arc::new(own);
    group.exchange(vec![own; size], lengths)?.wait()
}

/// What rank 0 tells; what others would tell is not asked for.
///
/// # Errors
/// As [`gather`].
pub fn broadcast(group: &dyn Group, own: Option<Vec<u8>>) -> Result<Block, Error> {
    let (size, first) = (group.size(), group.rank() == 0);
    let own = match first {
        true => own.unwrap_or_default(),
        false => Vec::new(),
    };
    let nothing = Block::default();
    let from_first = |length| {
        let mut lengths = vec![0; size];
        lengths[0] = length;
        lengths
    };
    let to = |block: &Block| match first {
        true => vec![block.clone(); size],
        false => vec![nothing.clone(); size],
    };
    let length = Arc::new((own.len() as u64).to_le_bytes().to_vec());
    let told = group.exchange(to(&length), from_first(8))?.wait()?;
    let length = told.first().map_or(Ok(0), |l| number(0, l))?;
    let told = group
        .exchange(to(&Arc::new(own)), from_first(length))?
        .wait()?;
    Ok(told.into_iter().next().unwrap_or_default())
}

/// Waits until all ranks are here.
///
/// # Errors
/// As [`gather`].
pub fn barrier(group: &dyn Group) -> Result<(), Error> {
    let size = group.size();
    let here = Arc::new(vec![1]);
    group.exchange(vec![here; size], vec![1; size])?.wait()?;
    Ok(())
}

/// Makes sure that all ranks have the same, by name; the first that differs is named on all of
/// them.
///
/// # Errors
/// [`Error::Differs`], and as [`gather`].
pub fn agree(group: &dyn Group, fields: &[(String, String)]) -> Result<(), Error> {
    if group.size() == 1 {
        return Ok(());
    }
    let mut own = Vec::new();
    for (name, value) in fields {
        for text in [name, value] {
            own.extend((text.len() as u64).to_le_bytes());
            own.extend(text.as_bytes());
        }
    }
    let told = gather(group, own)?;
    let told: Vec<_> = told
        .iter()
        .enumerate()
        .map(|(rank, told)| read(rank, told))
        .collect::<Result<_, _>>()?;
    let Some((first, others)) = told.split_first() else {
        return Ok(());
    };
    for (rank, own) in (1..).zip(others) {
        let both = (0..own.len().max(first.len())).map(|i| (own.get(i), first.get(i)));
        for (own, first) in both {
            if own != first {
                let none = (String::new(), String::new());
                let (own, first) = (own.unwrap_or(&none), first.unwrap_or(&none));
                let field = match own.0.is_empty() {
                    true => &first.0,
                    false => &own.0,
                };
                return Err(Error::Differs {
                    rank,
                    field: field.clone(),
                    own: own.1.clone(),
                    first: first.1.clone(),
                });
            }
        }
    }
    Ok(())
}

/// Whether all ranks have come so far; where one has not, all learn of the first of them. A rank
/// that has failed gets what it failed with, and `text` says it to the others.
///
/// # Errors
/// This rank's own fault, else [`Error::Stopped`], and as [`gather`].
pub fn together<T, E: From<Error>>(
    group: &dyn Group,
    outcome: Result<T, E>,
    text: impl FnOnce(&E) -> String,
) -> Result<T, E> {
    if group.size() == 1 {
        return outcome;
    }
    let own = match &outcome {
        Ok(_) => vec![0],
        Err(e) => [&[1], text(e).as_bytes()].concat(),
    };
    let told = gather(group, own)?;
    let value = outcome?;
    for (rank, told) in told.iter().enumerate() {
        if let Some((1, reason)) = told.split_first() {
            let reason = String::from_utf8_lossy(reason).into_owned();
            return Err(Error::Stopped { rank, reason }.into());
        }
    }
    Ok(value)
}

fn number(rank: usize, bytes: &[u8]) -> Result<usize, Error> {
    let number = bytes.try_into().map(u64::from_le_bytes).ok();
    let number = number.filter(|n| *n <= LONGEST);
    number
        .and_then(|n| usize::try_from(n).ok())
        .ok_or_else(|| strange(rank))
}

fn strange(rank: usize) -> Error {
    Error::Message {
        rank,
        what: "what is not understood".to_owned(),
    }
}

/// Names and values that a rank has told.
fn read(rank: usize, mut told: &[u8]) -> Result<Vec<(String, String)>, Error> {
    let mut next = || -> Option<String> {
        let (length, rest) = told.split_first_chunk::<8>()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let (text, rest) = rest.split_at_checked(length)?;
        told = rest;
        String::from_utf8(text.to_vec()).ok()
    };
    let mut fields = Vec::new();
    while let Some(name) = next() {
        fields.push((name, next().ok_or_else(|| strange(rank))?));
    }
    match told.is_empty() {
        true => Ok(fields),
        false => Err(strange(rank)),
    }
}
