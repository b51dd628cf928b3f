//! What every provider does about the token it uses.

use leasehold_core::{Current, Error, ErrorKind, Issued, Token};

/// A dead token is the token's keeper's business too: it logs in again.
pub(crate) fn report_dead(current: &Current<Token>, token: &Issued<Token>, error: Error) -> Error {
    if error.kind() == ErrorKind::DeadToken {
        current.reject(token.generation(), ErrorKind::DeadToken);
    }
    error
}
