//! What can go wrong when answers are to be served.

use std::net::SocketAddr;

/// What can go wrong when answers are to be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Other machines could connect, which was not asked for.
    #[error("{0} is no address of this machine alone, as 127.0.0.1 is: others could connect")]
    Anyone(SocketAddr),
    /// Another program has the port.
    #[error("{0} is in use by another program")]
    InUse(SocketAddr),
    /// The system refuses the address.
    #[error("{address}: {source}")]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// A token that could be guessed, or that no address of a page can hold.
    #[error(
        "a token has {least} to {most} characters, letters, digits, `-`, `.`, `_` and `~`",
        least = crate::gate::TOKEN.0,
        most = crate::gate::TOKEN.1
    )]
    Token,
    /// The system gives no random numbers.
    #[error("no random token can be had: {0}")]
    Random(getrandom::Error),
    /// The system gives no thread.
    #[error("no thread can be had: {0}")]
    Thread(std::io::Error),
    /// The page cannot be made, or a window cannot be told to it.
    #[error(transparent)]
    Page(#[from] mtcae_report::Error),
    /// What is said of a window is no JSON.
    #[error("an answer as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// An answer cannot be kept.
    #[error("an answer: {0}")]
    Line(std::io::Error),
}
