//! What user code returns when it fails, and how the runtime names it.

use std::fmt;

use alluvium_actors::ports::task::{Failure, Severity};

/// A failure of user code: an operator's function, a source, a sink. Any standard error converts into it with `?` and is then retryable;
/// [`OperatorError::unrecoverable`] says that a restart would fail again.
///
/// ```
/// use alluvium::{OperatorError, OperatorResult};
///
/// fn minutes(text: &str) -> OperatorResult<i64> {
///     if text.is_empty() {
///         return Err(OperatorError::unrecoverable("the delay is empty"));
///     }
///     Ok(text.parse()?)
/// }
/// assert_eq!(minutes("12").unwrap(), 12);
/// assert!(minutes("").unwrap_err().to_string().contains("empty"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct OperatorError {
    message: String,
    severity: Severity,
}

/// What user code returns.
pub type OperatorResult<T = ()> = Result<T, OperatorError>;

impl OperatorError {
    /// A failure that a restart may mend.
    pub fn retryable(message: impl fmt::Display) -> OperatorError {
        OperatorError { message: message.to_string(), severity: Severity::Retryable }
    }

    /// A failure that no restart mends: the job fails at once.
    pub fn unrecoverable(message: impl fmt::Display) -> OperatorError {
        OperatorError { message: message.to_string(), severity: Severity::Unrecoverable }
    }

    /// Whether a restart may help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.severity == Severity::Retryable
    }

    /// The failure as the runtime reports it: with the name of the operator.
    #[must_use]
    pub fn at(self, operator: &str) -> Failure {
        Failure { severity: self.severity, ..Failure::retryable(operator, self.message) }
    }
}

impl fmt::Display for OperatorError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl fmt::Debug for OperatorError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({:?})", self.message, self.severity)
    }
}

/// `?` on any standard error. (So `OperatorError` itself cannot be one: the two would overlap.)
impl<E: std::error::Error> From<E> for OperatorError {
    fn from(error: E) -> OperatorError {
        OperatorError::retryable(error)
    }
}
