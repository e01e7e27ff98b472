//! What is said of a name that there is not.

use std::fmt;

/// A name that no strategy, mode or normalisation has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    what: &'static str,
    got: String,
    known: String,
}

impl ParseError {
    /// `got` is no `what`, of which those `known` are.
    pub fn new(what: &'static str, got: &str, known: &str) -> Self {
        Self {
            what,
            got: got.into(),
            known: known.into(),
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, got, known } = self;
        write!(f, "`{got}` is no {what}; known: {known}")
    }
}

impl std::error::Error for ParseError {}

/// The conversions that serde's `try_from = "String", into = "String"` takes, of types that
/// are written and parsed by name.
#[macro_export]
macro_rules! by_name {
    ($name:ty) => {
        impl TryFrom<String> for $name {
            type Error = $crate::ParseError;

            fn try_from(name: String) -> Result<Self, $crate::ParseError> {
                name.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    };
}
