//! A valid JSON Web Token, as policies see it.

use serde_json::{Map, Value};

/// Claims that hold words with blanks between them (RFC 8693 section 4.2).
const WORDS: [&str; 2] = ["scope", "permission"];

#[derive(Clone, Debug)]
pub struct Token {
    /// `issuer/subject`; None where it lacks one of them.
    pub principal: Option<Box<str>>,
    pub claims: Map<String, Value>,
    /// Further claims that hold words (Istio's `spaceDelimitedClaims`).
    pub words: Box<[Box<str>]>,
}

impl Token {
    /// Whether the claim to which the steps lead, or any element of it, passes. Only texts do.
    pub fn any<S: AsRef<str>>(&self, steps: &[S], test: impl Fn(&str) -> bool) -> bool {
        let Some(value) = self.claim(steps) else { return false };
        let has_words = matches!(steps, [only] if self.has_words(only.as_ref()));
        let passes = |text: &str| test(text) || has_words && text.split_ascii_whitespace().any(&test);
        match value {
            Value::String(text) => passes(text),
            Value::Array(elements) => elements.iter().filter_map(Value::as_str).any(passes),
            _ => false,
        }
    }

    /// As text; None: there is no such claim.
    pub fn written<S: AsRef<str>>(&self, steps: &[S]) -> Option<String> {
        self.claim(steps).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    fn claim<S: AsRef<str>>(&self, steps: &[S]) -> Option<&Value> {
        let (first, rest) = steps.split_first()?;
        rest.iter().try_fold(self.claims.get(first.as_ref())?, |value, step| value.get(step.as_ref()))
    }

    fn has_words(&self, claim: &str) -> bool {
        WORDS.contains(&claim) || self.words.iter().any(|name| **name == *claim)
    }
}
