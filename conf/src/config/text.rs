//! What values that are a text in the file do alike. Each has an `as_str`; which texts it takes is its own to say.

/// Shows a value as its `as_str` has it.
macro_rules! shown_as_text {
    ($value:ty) => {
        impl std::fmt::Display for $value {
            fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str(self.as_str())
            }
        }
    };
}

/// Makes two values equal if their texts differ in the case of ASCII letters at most.
macro_rules! equal_in_any_case {
    ($value:ty) => {
        impl PartialEq for $value {
            fn eq(&self, other: &Self) -> bool {
                self.as_str().eq_ignore_ascii_case(other.as_str())
            }
        }

        impl Eq for $value {}
    };
}

/// Makes two values equal if they are written alike.
macro_rules! equal_if_written_alike {
    ($value:ty) => {
        impl PartialEq for $value {
            fn eq(&self, other: &Self) -> bool {
                self.as_str() == other.as_str()
            }
        }

        impl Eq for $value {}
    };
}

pub(super) use {equal_if_written_alike, equal_in_any_case, shown_as_text};
