//! Where in a resource an error is.

use std::fmt::Display;

pub trait Within {
    /// Puts the place before the reason: "ports[0].scopes[1].http[2]: ...".
    fn within(self, place: impl Display) -> Self;
}

impl<T> Within for Result<T, String> {
    fn within(self, place: impl Display) -> Self {
        self.map_err(|reason| format!("{place}: {reason}"))
    }
}

/// Decodes each element, naming the one that fails by its place.
pub fn each<S, T, C: FromIterator<T>>(
    list: &str,
    sent: &[S],
    mut decode: impl FnMut(&S) -> Result<T, String>,
) -> Result<C, String> {
    sent.iter().enumerate().map(|(place, sent)| decode(sent).within(format_args!("{list}[{place}]"))).collect()
}
