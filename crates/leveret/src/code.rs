//! What kind of error a service reported: the names gRPC gave them, which every language has a table for.

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, retryable: $retryable:literal;)*) => {
        /// The kind of an error, as the header `rpc-status` names it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $variant,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// The name on the wire, e.g. `NOT_FOUND`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Code::$variant => $name,)*
                }
            }

            /// Whether asking again may help, unless the service says otherwise.
            pub fn is_retryable(self) -> bool {
                match self {
                    $(Code::$variant => $retryable,)*
                }
            }
        }
    };
}

codes! {
    /// The caller gave up.
    Cancelled = "CANCELLED", retryable: false;
    /// An error without a better name.
    Unknown = "UNKNOWN", retryable: false;
    /// The request makes no sense, whatever the state of the service: also a body that does not decode.
    InvalidArgument = "INVALID_ARGUMENT", retryable: false;
    /// The deadline passed before the work was done.
    DeadlineExceeded = "DEADLINE_EXCEEDED", retryable: false;
    /// What was asked for does not exist.
    NotFound = "NOT_FOUND", retryable: false;
    /// What was to be made exists.
    AlreadyExists = "ALREADY_EXISTS", retryable: false;
    /// The caller may not do this.
    PermissionDenied = "PERMISSION_DENIED", retryable: false;
    /// A quota or a resource is used up.
    ResourceExhausted = "RESOURCE_EXHAUSTED", retryable: true;
    /// The state of the service forbids it; the caller must change that first.
    FailedPrecondition = "FAILED_PRECONDITION", retryable: false;
    /// Somebody else was faster, or the request was given up after too many attempts.
    Aborted = "ABORTED", retryable: false;
    /// Past the end of what exists.
    OutOfRange = "OUT_OF_RANGE", retryable: false;
    /// The service has no such method.
    Unimplemented = "UNIMPLEMENTED", retryable: false;
    /// The service is broken: also a panic.
    Internal = "INTERNAL", retryable: false;
    /// For the moment.
    Unavailable = "UNAVAILABLE", retryable: true;
    /// Data is lost for good.
    DataLoss = "DATA_LOSS", retryable: false;
    /// The caller did not say who it is.
    Unauthenticated = "UNAUTHENTICATED", retryable: false;
}

impl Code {
    /// The code with this name. A name we do not know is [`Code::Unknown`]: a newer peer must not break us.
    pub fn from_name(name: &str) -> Code {
        Code::ALL.iter().copied().find(|code| code.name() == name).unwrap_or(Code::Unknown)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_code() {
        for &code in Code::ALL {
            assert_eq!(Code::from_name(code.name()), code);
        }
        assert_eq!(Code::from_name("TEAPOT"), Code::Unknown);
    }
}
