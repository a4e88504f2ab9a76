//! Who a workload is: its SPIFFE identity.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`, the only form that the mesh knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    pub trust_domain: Arc<str>,
    pub namespace: Arc<str>,
    pub service_account: Arc<str>,
}

impl Identity {
    /// Fails when a piece could not be told apart once they are joined.
    pub fn new(trust_domain: Arc<str>, namespace: Arc<str>, service_account: Arc<str>) -> Result<Self, NotAnIdentity> {
        let valid = is_name(&trust_domain) && is_name(&namespace) && is_name(&service_account);
        let identity = Identity { trust_domain, namespace, service_account };
        if valid {
            Ok(identity)
        } else {
            Err(NotAnIdentity(identity.to_string()))
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

/// A text that is not the identity of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAnIdentity(String);

impl fmt::Display for NotAnIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not of the form spiffe://<trust domain>/ns/<namespace>/sa/<service account>", self.0)
    }
}

impl std::error::Error for NotAnIdentity {}

impl FromStr for Identity {
    type Err = NotAnIdentity;

    /// Takes exactly five non-empty pieces of visible ASCII; nothing is trimmed, decoded or folded.
    fn from_str(text: &str) -> Result<Self, NotAnIdentity> {
        let wrong = || NotAnIdentity(text.to_owned());
        let mut pieces = text.strip_prefix("spiffe://").ok_or_else(wrong)?.split('/');
        let mut piece = || pieces.next().ok_or_else(wrong);
        let (trust_domain, ns, namespace, sa, service_account) = (piece()?, piece()?, piece()?, piece()?, piece()?);
        if ns != "ns" || sa != "sa" || pieces.next().is_some() {
            return Err(wrong());
        }
        Identity::new(trust_domain.into(), namespace.into(), service_account.into())
    }
}

/// The characters that the SPIFFE ID specification allows in a trust domain or path segment (section 2), and no dot
/// segment.
fn is_name(piece: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
    !piece.is_empty() && piece != "." && piece != ".." && piece.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_printed_as_it_was_read() {
        let text = "spiffe://cluster.local/ns/default/sa/book-info_reviews.v1";
        let identity: Identity = text.parse().unwrap();
        assert_eq!(&*identity.trust_domain, "cluster.local");
        assert_eq!(&*identity.namespace, "default");
        assert_eq!(&*identity.service_account, "book-info_reviews.v1");
        assert_eq!(identity.to_string(), text);
    }

    #[test]
    fn nothing_but_the_grammar_is_an_identity() {
        for text in [
            "",
            "spiffe://",
            "spiffe://td",
            "spiffe://td/ns/a/sa",
            "spiffe://td/ns/a/sa/",
            "spiffe://td/ns//sa/b",
            "spiffe:///ns/a/sa/b",
            "spiffe://td/ns/a/sa/b/",
            "spiffe://td/ns/a/sa/b/c",
            "spiffe://td/sa/a/ns/b",
            "spiffe://td/NS/a/sa/b",
            "SPIFFE://td/ns/a/sa/b",
            "https://td/ns/a/sa/b",
            " spiffe://td/ns/a/sa/b",
            "spiffe://td/ns/a/sa/b\n",
            "spiffe://td/ns/a b/sa/c",
            "spiffe://td:80/ns/a/sa/b",
            "spiffe://u@td/ns/a/sa/b",
            "spiffe://td/ns/../sa/b",
            "spiffe://td/ns/%61/sa/b",
            "spiffe://td/ns/a/sa/b?x=1",
            "spiffe://td/ns/a/sa/b#x",
            "spiffe://td/ns/\u{e9}/sa/b",
        ] {
            assert!(text.parse::<Identity>().is_err(), "{text:?}");
        }
    }
}
