//! haarb's local gRPC API: the generated types, their conversion to and from
//! `haarb-model`, and how both sides find each other on a Unix socket.
//!
//! Generated types stop here: a daemon works with `haarb-model` and never sees a
//! half-checked message. `proto/haarb/v1/*.proto` is the reference for integrators.

mod advert;
mod convert;
mod directive;
mod duties;
mod report;
pub mod transport;

/// The generated types and services of `haarb.v1`.
pub mod v1 {
    #![expect(
        missing_docs,
        clippy::allow_attributes,
        unused_qualifications,
        reason = "generated code"
    )]
    tonic::include_proto!("haarb.v1");
}

pub use advert::{decode_advert, encode_advert};
pub use convert::Invalid;
pub use directive::Directive;
