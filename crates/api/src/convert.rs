//! What every conversion needs: one error, checked fields, enums without surprises.

use haarb_model::{Agent, Data, Mode, Role};

use crate::v1;

/// A message that does not mean anything: which field, and what was in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message not understood: field `{field}` {problem}")]
pub struct Invalid {
    field: &'static str,
    problem: String,
}

impl Invalid {
    pub(crate) fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self {
            field,
            problem: problem.into(),
        }
    }

    pub(crate) fn missing(field: &'static str) -> Self {
        Self::new(field, "is missing")
    }
}

/// Parses a text field (a name, an address).
pub(crate) fn parse<T>(field: &'static str, text: &str) -> Result<T, Invalid>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    text.parse()
        .map_err(|e: T::Err| Invalid::new(field, format!("has {text:?}: {e}")))
}

/// Parses a text field where empty means none.
pub(crate) fn parse_optional<T>(field: &'static str, text: &str) -> Result<Option<T>, Invalid>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    if text.is_empty() {
        Ok(None)
    } else {
        parse(field, text).map(Some)
    }
}

/// A MAC address of exactly six bytes.
pub(crate) fn mac(field: &'static str, bytes: &[u8]) -> Result<[u8; 6], Invalid> {
    bytes
        .try_into()
        .map_err(|_| Invalid::new(field, format!("has {} bytes, not 6", bytes.len())))
}

/// The text of an optional name; empty for none.
pub(crate) fn text_or_empty(name: Option<&impl ToString>) -> String {
    name.map(ToString::to_string).unwrap_or_default()
}

/// Writes both directions between a protobuf enum and its twin in the model.
macro_rules! twin {
    ($model:ty, $wire:ty, $field:literal, $($variant:ident),+ $(,)?) => {
        impl From<$model> for $wire {
            fn from(value: $model) -> Self {
                match value { $(<$model>::$variant => Self::$variant),+ }
            }
        }

        impl $crate::convert::FromWire<$wire> for $model {
            fn from_wire(number: i32) -> Result<Self, $crate::convert::Invalid> {
                match <$wire>::try_from(number) {
                    $(Ok(<$wire>::$variant) => Ok(Self::$variant),)+
                    _ => Err($crate::convert::Invalid::new($field, format!("has the unknown value {number}"))),
                }
            }
        }
    };
}
pub(crate) use twin;

/// A model enum that can be read from the number of its protobuf twin.
pub(crate) trait FromWire<W>: Sized {
    fn from_wire(number: i32) -> Result<Self, Invalid>;
}

twin!(
    Role,
    v1::Role,
    "role",
    Starting,
    Standby,
    Taking,
    Active,
    Releasing,
    Waiting,
    Failed
);
twin!(
    Mode,
    v1::Mode,
    "mode",
    Automatic,
    OneNetwork,
    Operator,
    Flapping,
    ConfigDiffers,
    VersionDiffers,
    Maintenance
);
twin!(Data, v1::Data, "data", Current, Stale, Inconsistent);
twin!(
    Agent,
    v1::Agent,
    "agent",
    LinkWatcher,
    Prober,
    VipAgent,
    Syncer,
    Supervisor
);

/// Reads the `agent` of a hello.
///
/// # Errors
/// [`Invalid`] for a number that names no agent.
pub(crate) fn agent(number: i32) -> Result<Agent, Invalid> {
    Agent::from_wire(number)
}

impl v1::Hello {
    /// The agent that says hello.
    ///
    /// # Errors
    /// [`Invalid`] for a number that names no agent.
    pub fn sender(&self) -> Result<Agent, Invalid> {
        agent(self.agent)
    }
}
