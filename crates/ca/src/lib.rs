//! Decides who may have a certificate, says what goes into it, and checks what came out.
//! In: a proven Csr, evidence, facts of the registry, a signature. Out: a Ticket to sign, a Certificate.
//! Invariant: nothing is signed that was not admitted, linted and recorded, in this order (test: the doc tests below).
//! Never: holds a key, reads a clock, draws a random number, touches the database.
//! Spec: RFC 5280; RFC 2986; DESIGN.md section 2, flow A, and section 3, rows "certificates" and "sub-CAs".

mod admit;
pub mod ceremony;
mod crl;
mod dummy;
mod error;
mod issuer;
mod ticket;

pub use admit::{AdmittedCsr, Evidence, Facts, Wanted, admit};
pub use crl::{CrlDecision, CrlSchedule, CrlState, CrlTicket, CrlWhy, crl_plan, finish_crl, prepare_crl};
pub use error::CaError;
pub use issuer::Issuer;
pub use ticket::{
    BACKDATED, Intent, LEAF_LIFETIME_DEFAULT, LEAF_LIFETIME_MAX, RecordedTicket, Ticket, finish, prepare,
};
