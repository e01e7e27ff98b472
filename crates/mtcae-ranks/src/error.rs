//! What can go wrong between ranks.

/// What can go wrong between ranks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another rank has failed, and said why: it has told the user, too.
    #[error("rank {rank}: {reason}")]
    Stopped {
        /// The rank.
        rank: usize,
        /// What it stopped at.
        reason: String,
    },
    /// Another rank has ended without a word.
    #[error("rank {rank} has ended while the others were waiting for it")]
    Gone {
        /// The rank.
        rank: usize,
    },
    /// A rank's run is not the same as that of rank 0.
    #[error("rank {rank}: not the same {field} as rank 0{}", values(own, first))]
    Differs {
        /// The rank.
        rank: usize,
        /// What differs.
        field: String,
        /// What the rank has.
        own: String,
        /// What rank 0 has.
        first: String,
    },
    /// What a rank was sent is not what it was to be sent.
    #[error("rank {rank} sent {what}: are all ranks of one build?")]
    Message {
        /// The sender.
        rank: usize,
        /// What it sent, in words.
        what: String,
    },
    /// Leaves cannot be dealt, or vectors not be added.
    #[error("{0}")]
    Deal(String),
    /// A variable of the environment does not say what it should.
    #[error("{variable}: {reason}")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// The library that carries messages cannot do its work.
    #[error("{library}: {reason}")]
    Library {
        /// Its name.
        library: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// Two values where they can be read at a glance, which digests cannot.
fn values(own: &str, first: &str) -> String {
    let short = |value: &str| !value.is_empty() && value.len() < 64;
    match short(own) && short(first) {
        true => format!(" ({own}, not {first})"),
        false => String::new(),
    }
}
