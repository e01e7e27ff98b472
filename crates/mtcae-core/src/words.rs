//! Errors as users are told them.

use std::error::Error;

/// An error and its causes on one line, each said once. The frames that Candle puts
/// into its errors where `RUST_BACKTRACE` is set are left out.
pub fn one_line(error: &dyn Error) -> String {
    let said = |error: &dyn Error| -> String {
        let text = error.to_string();
        let lines: Vec<&str> = text.lines().filter(|line| !is_frame(line)).collect();
        lines.join(" ")
    };
    let mut text = said(error);
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = said(cause);
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether it is one of a backtrace's lines: `   3: function`, `        at file:1:2`.
fn is_frame(line: &str) -> bool {
    let rest = line.trim_start();
    let number = rest.split_once(": ").map(|(number, _)| number);
    let is_number = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
    rest.len() < line.len() && (number.is_some_and(is_number) || rest.starts_with("at "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error whose text ends in a backtrace, as Candle's do, within another.
    #[derive(Debug)]
    struct Named(Traced);
    #[derive(Debug)]
    struct Traced(std::backtrace::Backtrace);

    impl std::fmt::Display for Traced {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "shape mismatch: 3: 4\n{}", self.0)
        }
    }
    impl Error for Traced {}
    impl std::fmt::Display for Named {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "model.safetensors: {}", self.0)
        }
    }
    impl Error for Named {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn an_error_is_one_line_without_a_backtrace() {
        let backtrace = std::backtrace::Backtrace::force_capture();
        assert!(backtrace.to_string().lines().count() > 3, "{backtrace}");
        assert_eq!(
            one_line(&Named(Traced(backtrace))),
            "model.safetensors: shape mismatch: 3: 4"
        );
    }
}
