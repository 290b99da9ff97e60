//! An error that a service reports to its caller, and how a program's own errors become one.

use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Code;

/// The answer "no": what the caller gets as [`CallError::Remote`](crate::CallError::Remote).
///
/// On the wire: headers `rpc-status` and `rpc-error`, and the body `application/problem+json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The kind.
    pub code: Code,
    /// One line for people.
    pub message: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// How long to wait before that, if the service knows.
    pub retry_after: Option<Duration>,
    /// What a program may want to know; any JSON.
    pub details: Option<Value>,
}

impl Failure {
    /// A failure of this kind; retryable as its kind is.
    pub fn new(code: Code, message: impl Into<String>) -> Failure {
        Failure {
            code,
            message: message.into(),
            retryable: code.is_retryable(),
            retry_after: None,
            details: None,
        }
    }

    /// [`Code::NotFound`]
    pub fn not_found(message: impl Into<String>) -> Failure {
        Failure::new(Code::NotFound, message)
    }

    /// [`Code::InvalidArgument`]
    pub fn invalid_argument(message: impl Into<String>) -> Failure {
        Failure::new(Code::InvalidArgument, message)
    }

    /// [`Code::Internal`]
    pub fn internal(message: impl Into<String>) -> Failure {
        Failure::new(Code::Internal, message)
    }

    /// [`Code::Unavailable`], which a caller may retry.
    pub fn unavailable(message: impl Into<String>) -> Failure {
        Failure::new(Code::Unavailable, message)
    }

    /// The same failure; asking again may help.
    #[must_use]
    pub fn retryable(self, retryable: bool) -> Failure {
        Failure { retryable, ..self }
    }

    /// The same failure; ask again after this time.
    #[must_use]
    pub fn retry_after(self, after: Duration) -> Failure {
        Failure { retryable: true, retry_after: Some(after), ..self }
    }

    /// The same failure with details for a program. What does not serialize is left out.
    #[must_use]
    pub fn with_details(self, details: &impl serde::Serialize) -> Failure {
        Failure { details: serde_json::to_value(details).ok(), ..self }
    }

    /// The details as the type the service made them of.
    pub fn details_as<T: DeserializeOwned>(&self) -> Option<T> {
        T::deserialize(self.details.as_ref()?).ok()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Failure {}

/// An error that a handler may return: what the caller will see of it.
///
/// ```
/// use leveret::{Code, Failure, IntoFailure};
///
/// enum WeatherError {
///     NoSuchPlace(String),
/// }
///
/// impl IntoFailure for WeatherError {
///     fn into_failure(self) -> Failure {
///         match self {
///             WeatherError::NoSuchPlace(place) => Failure::not_found(format!("no place called {place}")),
///         }
///     }
/// }
///
/// assert_eq!(WeatherError::NoSuchPlace("Oz".into()).into_failure().code, Code::NotFound);
/// ```
pub trait IntoFailure {
    /// The answer to the caller.
    fn into_failure(self) -> Failure;
}

impl IntoFailure for Failure {
    fn into_failure(self) -> Failure {
        self
    }
}

impl IntoFailure for String {
    fn into_failure(self) -> Failure {
        Failure::new(Code::Unknown, self)
    }
}

impl IntoFailure for &str {
    fn into_failure(self) -> Failure {
        Failure::new(Code::Unknown, self)
    }
}

impl IntoFailure for std::io::Error {
    fn into_failure(self) -> Failure {
        Failure::internal(self.to_string())
    }
}

impl IntoFailure for Box<dyn std::error::Error + Send + Sync> {
    fn into_failure(self) -> Failure {
        match self.downcast::<Failure>() {
            Ok(failure) => *failure,
            Err(error) => Failure::internal(error.to_string()),
        }
    }
}

impl IntoFailure for std::convert::Infallible {
    fn into_failure(self) -> Failure {
        match self {}
    }
}
