//! Collects into maps and sets, for all rooms.
//!
//! [`Iterator::collect`] sorts what goes into a `BTreeMap` first, by a merge sort that is compiled
//! anew for each type and takes 5 KiB in the binary. Inserting needs none, and takes as long.

/// Inserts each item.
pub fn gather<C: Default + Extend<T>, T>(items: impl IntoIterator<Item = T>) -> C {
    let mut all = C::default();
    items.into_iter().for_each(|item| all.extend(Some(item)));
    all
}

/// Inserts each item, up to the first error.
///
/// # Errors
/// The first error among the items.
pub fn try_gather<C: Default + Extend<T>, T, E>(
    items: impl IntoIterator<Item = Result<T, E>>,
) -> Result<C, E> {
    let mut all = C::default();
    for item in items {
        all.extend(Some(item?));
    }
    Ok(all)
}
