//! Templates of paths (Istio's `paths`, Envoy's URI templates): `{*}` is one segment, `{**}` all that follows.

use std::fmt;

#[derive(Debug, PartialEq)]
pub struct Template {
    segments: Box<[Segment]>,
    /// Whether it ends in `{**}`.
    open: bool,
}

#[derive(Debug, PartialEq)]
enum Segment {
    Plain(Box<str>),
    /// Any one that is not empty.
    Any,
}

impl Template {
    /// Errors: `{**}` before the end, or another thing in braces.
    pub fn parse(text: &str) -> Result<Template, String> {
        let (text, open) = match text.strip_suffix("/{**}") {
            Some(before) => (before, true),
            None => (text, false),
        };
        let segment = |segment: &str| match segment {
            "{*}" => Ok(Segment::Any),
            plain if plain.contains(['{', '}']) => Err(format!("{plain:?} is no segment of a path template")),
            plain => Ok(Segment::Plain(plain.into())),
        };
        Ok(Template { segments: text.split('/').map(segment).collect::<Result<_, _>>()?, open })
    }

    pub fn fits(&self, path: &str) -> bool {
        let mut segments = path.split('/');
        let all = self.segments.iter().all(|own| match (own, segments.next()) {
            (Segment::Plain(plain), Some(segment)) => **plain == *segment,
            (Segment::Any, Some(segment)) => !segment.is_empty(),
            (_, None) => false,
        });
        all && segments.next().is_some() == self.open
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let segments = self.segments.iter().map(|segment| match segment {
            Segment::Plain(plain) => plain,
            Segment::Any => "{*}",
        });
        f.write_str(&segments.collect::<Vec<_>>().join("/"))?;
        f.write_str(if self.open { "/{**}" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_compared_one_by_one() {
        for (template, path, expected) in [
            ("/a/{*}", "/a/b", true),
            ("/a/{*}", "/a/", false),
            ("/a/{*}", "/a/b/c", false),
            ("/a/{*}/", "/a/b/", true),
            ("/a/{*}/c", "/a/b/c", true),
            ("/a/{*}/c", "/a/b/d", false),
            ("/a/{**}", "/a/", true),
            ("/a/{**}", "/a/b/c", true),
            ("/a/{**}", "/a", false),
            ("/{*}/b/{**}", "/a/b/c/d", true),
            ("/{**}", "/", true),
        ] {
            let parsed = Template::parse(template).unwrap();
            assert_eq!(parsed.fits(path), expected, "{template} {path}");
            assert_eq!(parsed.to_string(), template);
        }
        assert!(Template::parse("/{**}/a").is_err() && Template::parse("/{name}").is_err());
    }
}
