//! Reads the query of a request; an error names the parameter.

use super::ApiError;
use crate::http::{Head, Status};

/// `true` or `false`; `None` if it is absent.
pub(super) fn flag(head: &Head, name: &str) -> Result<Option<bool>, ApiError> {
    match head.query_value(name) {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(other) => Err(wrong(name, "true or false", other)),
    }
}

/// A whole number in decimal digits, up to `most`; `None` if it is absent.
pub(super) fn whole(head: &Head, name: &str, most: u64) -> Result<Option<u64>, ApiError> {
    let Some(given) = head.query_value(name) else { return Ok(None) };
    let is_number = given.bytes().all(|digit| digit.is_ascii_digit());
    match given.parse().ok().filter(|number| is_number && *number <= most) {
        Some(number) => Ok(Some(number)),
        None => Err(wrong(name, &format!("a whole number from 0 to {most}"), given)),
    }
}

/// One of some names; `None` if it is absent.
pub(super) fn one_of(
    head: &Head,
    name: &str,
    known: &[&'static str],
) -> Result<Option<&'static str>, ApiError> {
    let Some(given) = head.query_value(name) else { return Ok(None) };
    match known.iter().find(|known| **known == given) {
        Some(known) => Ok(Some(known)),
        None => Err(wrong(name, &format!("one of {}", known.join(", ")), given)),
    }
}

/// The error for a value that is not `right`.
pub(super) fn wrong(name: &str, right: &str, given: &str) -> ApiError {
    ApiError::new(Status::BadRequest, format!("{name}: must be {right}, not {given:?}"))
}

/// More than anything that is counted can have; a larger number is a mistake.
pub(super) const MOST: u64 = 1_000_000_000;
