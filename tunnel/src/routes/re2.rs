//! Regular expressions in RE2's dialect, as Istio's and Gateway API's users write them, on the `regex` crate: linear in
//! time as RE2, with another syntax at its edges. Translated here: classes \d \s \w are ASCII, `&&`, `--`, `~~` and `[` in
//! a bracket are plain characters, \Q...\E, \C, octal numbers, a brace that is no repetition. Bytes that are not UTF-8
//! match nothing but \C. <https://github.com/google/re2/wiki/Syntax>

use std::iter::Peekable;
use std::str::Chars;

use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

/// Bytes that one compiled expression may take, where RE2 in Envoy counts 32,768 instructions.
const SIZE_LIMIT: usize = 1 << 22;
const REPETITIONS: u32 = 1000;
const CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// Matches whole values only.
pub fn whole(pattern: &str) -> Result<Regex, String> {
    build(pattern, &enclosed(&translate(pattern)?))
}

/// Matches anywhere.
pub fn anywhere(pattern: &str) -> Result<Regex, String> {
    build(pattern, &translate(pattern)?)
}

/// Many expressions tried at once, each matching whole values only; they are in order.
pub fn set<'a>(regexes: impl Iterator<Item = &'a Regex>) -> Result<RegexSet, String> {
    RegexSetBuilder::new(regexes.map(Regex::as_str))
        .size_limit(64 * SIZE_LIMIT)
        .build()
        .map_err(|error| error.to_string())
}

/// A substitution of RE2 (`\0` to `\9` are groups) in the words of the `regex` crate.
pub fn substitution(text: &str, pattern: &Regex) -> Result<Box<str>, String> {
    let (mut translated, mut characters) = (String::new(), text.chars());
    while let Some(character) = characters.next() {
        match (character, character == '\\') {
            ('$', _) => translated.push_str("$$"),
            (_, false) => translated.push(character),
            (_, true) => match characters.next() {
                Some('\\') => translated.push('\\'),
                Some(digit @ '0'..='9') if (digit as usize - '0' as usize) < pattern.captures_len() => {
                    translated.push_str(&format!("${{{digit}}}"));
                }
                Some(digit @ '0'..='9') => return Err(format!("substitution '{text}': there is no group {digit}")),
                _ => return Err(format!("substitution '{text}': \\ is followed by no digit and no \\")),
            },
        }
    }
    Ok(translated.into())
}

fn enclosed(translated: &str) -> String {
    format!("\\A(?:{translated})\\z")
}

fn build(pattern: &str, translated: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(translated).size_limit(SIZE_LIMIT).dfa_size_limit(SIZE_LIMIT).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => format!("regular expression '{pattern}' is too large"),
        error => bad(pattern, error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ")),
    })
}

fn bad(pattern: &str, reason: &str) -> String {
    format!("regular expression '{pattern}' is not one of RE2: {reason}")
}

fn translate(pattern: &str) -> Result<String, String> {
    let mut translator = Translator { characters: pattern.chars().peekable(), translated: String::new() };
    translator.all().map(|()| translator.translated).map_err(|reason| bad(pattern, &reason))
}

struct Translator<'a> {
    characters: Peekable<Chars<'a>>,
    translated: String,
}

impl Translator<'_> {
    fn all(&mut self) -> Result<(), String> {
        while let Some(character) = self.characters.next() {
            match character {
                '\\' => self.escape(false)?,
                '[' => self.bracket()?,
                '{' => self.brace()?,
                '(' => self.group()?,
                _ => self.translated.push(character),
            }
        }
        Ok(())
    }

    /// What follows a backslash, in a bracket or outside.
    fn escape(&mut self, bracket: bool) -> Result<(), String> {
        let character = self.characters.next().ok_or("it ends with a backslash")?;
        let class = |plain: &str| match bracket {
            true => plain.to_owned(),
            false => format!("[{plain}]"),
        };
        let translated = match character {
            'd' => class("0-9"),
            's' => class("\\t\\n\\f\\r "),
            'w' => class("0-9A-Za-z_"),
            'D' => "[^0-9]".to_owned(),
            'S' => "[^\\t\\n\\f\\r ]".to_owned(),
            'W' => "[^0-9A-Za-z_]".to_owned(),
            'a' | 'f' | 'n' | 'r' | 't' | 'v' => format!("\\{character}"),
            'x' => return self.hexadecimal(),
            'p' | 'P' => return self.property(character),
            '0'..='7' => return self.octal(character),
            'A' | 'z' if !bracket => format!("\\{character}"),
            'b' | 'B' if !bracket => format!("(?-u:\\{character})"),
            'C' if !bracket => "(?s-u:.)".to_owned(),
            'Q' if !bracket => return self.quoted(),
            _ if character.is_ascii_punctuation() => literal(character),
            _ => return Err(format!("\\{character} means nothing")),
        };
        self.translated.push_str(&translated);
        Ok(())
    }

    fn octal(&mut self, first: char) -> Result<(), String> {
        let mut digits = String::from(first);
        while digits.len() < 3 {
            match self.characters.next_if(|next| ('0'..='7').contains(next)) {
                Some(digit) => digits.push(digit),
                None => break,
            }
        }
        if digits.len() == 1 && first != '0' {
            return Err(format!("it refers to group {first}, which RE2 cannot"));
        }
        let value = u32::from_str_radix(&digits, 8).unwrap_or_default();
        self.translated.push_str(&format!("\\x{{{value:x}}}"));
        Ok(())
    }

    /// \x7F or \x{10FFFF}.
    fn hexadecimal(&mut self) -> Result<(), String> {
        let digits: String = match self.characters.next_if_eq(&'{') {
            Some(_) => self.characters.by_ref().take_while(|next| *next != '}').collect(),
            None => self.characters.by_ref().take(2).collect(),
        };
        let value = u32::from_str_radix(&digits, 16).map_err(|_| format!("\\x{digits} is no number"))?;
        self.translated.push_str(&format!("\\x{{{value:x}}}"));
        Ok(())
    }

    /// \pN, \p{Greek}, \p{^Greek}.
    fn property(&mut self, kind: char) -> Result<(), String> {
        let name: String = match self.characters.next_if_eq(&'{') {
            Some(_) => self.characters.by_ref().take_while(|next| *next != '}').collect(),
            None => self.characters.next().into_iter().collect(),
        };
        let (negated, name) = name.strip_prefix('^').map_or((false, &*name), |name| (true, name));
        let kind = if (kind == 'P') == negated { 'p' } else { 'P' };
        self.translated.push_str(&format!("\\{kind}{{{name}}}"));
        Ok(())
    }

    /// Up to \E, or the end.
    fn quoted(&mut self) -> Result<(), String> {
        while let Some(character) = self.characters.next() {
            if character == '\\' && self.characters.next_if_eq(&'E').is_some() {
                break;
            }
            self.translated.push_str(&literal(character));
        }
        Ok(())
    }

    fn bracket(&mut self) -> Result<(), String> {
        self.translated.push('[');
        if self.characters.next_if_eq(&'^').is_some() {
            self.translated.push('^');
        }
        let mut first = true;
        loop {
            match self.characters.next().ok_or("a bracket is not closed")? {
                ']' if !first => break,
                '\\' => self.escape(true)?,
                '[' if self.characters.peek() == Some(&':') => self.named_class()?,
                // A dash between two others makes a range; two dashes would be a difference.
                '-' if !self.translated.ends_with('-') => self.translated.push('-'),
                character if character.is_ascii_punctuation() => self.translated.push_str(&literal(character)),
                character => self.translated.push(character),
            }
            first = false;
        }
        self.translated.push(']');
        Ok(())
    }

    /// [:alpha:] or [:^alpha:] in a bracket.
    fn named_class(&mut self) -> Result<(), String> {
        let class: String = self.characters.by_ref().take_while(|next| *next != ']').collect();
        let name = class.trim_start_matches(':').trim_start_matches('^').trim_end_matches(':');
        if !CLASSES.contains(&name) {
            return Err(format!("class [{class}] is unknown"));
        }
        self.translated.push_str(&format!("[{class}]"));
        Ok(())
    }

    /// A repetition, or else a plain brace.
    fn brace(&mut self) -> Result<(), String> {
        let rest: String = self.characters.clone().take_while(|next| *next != '}').collect();
        let closed = self.characters.clone().nth(rest.chars().count()) == Some('}');
        let (least, most) = rest.split_once(',').unwrap_or((&rest, &rest));
        let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !closed || !number(least) || !(most.is_empty() || number(most)) {
            self.translated.push_str(&literal('{'));
            return Ok(());
        }
        let many = |text: &str| text.parse::<u32>().is_ok_and(|count| count <= REPETITIONS);
        if !many(least) || !(most.is_empty() || many(most)) {
            return Err(format!("more than {REPETITIONS} repetitions"));
        }
        self.translated.push('{');
        Ok(())
    }

    /// (?flags), (?flags:...), (?P<name>...), (?<name>...).
    fn group(&mut self) -> Result<(), String> {
        self.translated.push('(');
        if self.characters.next_if_eq(&'?').is_none() {
            return Ok(());
        }
        self.translated.push('?');
        let next = self.characters.clone();
        let flags: String = next.take_while(|next| next.is_alphabetic() || *next == '-').collect();
        match flags.chars().find(|flag| !"imsU-P".contains(*flag)) {
            Some(flag) => Err(format!("flag {flag} is unknown")),
            None => Ok(()),
        }
    }
}

fn literal(character: char) -> String {
    format!("\\x{{{:x}}}", u32::from(character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dialect_is_re2s() {
        let rows: &[(&str, &str, bool)] = &[
            ("abc", "abc", true),
            ("b", "abc", false),
            ("a|bc", "bc", true),
            ("a|bc", "abc", false),
            (".*", "", true),
            (".", "\n", false),
            ("(?s).", "\n", true),
            (".", "\u{e9}", true),
            ("\\d+", "123", true),
            ("\\d", "\u{0663}", false),
            ("\\w", "\u{e9}", false),
            ("\\W", "\u{e9}", true),
            ("\\s", "\u{b}", false),
            ("[\\d.]+", "1.2", true),
            ("[\\D]+", "ab", true),
            ("[^\\d]", "1", false),
            ("[a&&b]", "&", true),
            ("[a&&b]", "b", true),
            ("[[a]", "[", true),
            ("[~~a]", "~", true),
            ("[]a]", "]", true),
            ("[^]a]", "]", false),
            ("[+--]", ",", true),
            ("[a-]", "-", true),
            ("[-a]", "-", true),
            ("[[:digit:]x]+", "1x", true),
            ("[[:^digit:]]", "1", false),
            ("\\Qa.b\\E.", "a.bc", true),
            ("\\Qa.b\\E.", "axbc", false),
            ("\\Qa.b", "a.b", true),
            ("a{2}", "aa", true),
            ("a{,2}", "a{,2}", true),
            ("a{x}", "a{x}", true),
            ("{id}", "{id}", true),
            ("a{", "a{", true),
            ("\\x41", "A", true),
            ("\\x{41}", "A", true),
            ("\\101", "A", true),
            ("\\<a\\>", "<a>", true),
            ("\\/v1\\/x", "/v1/x", true),
            ("\\pL", "\u{e9}", true),
            ("\\p{^L}", "1", true),
            ("\\P{^L}", "a", true),
            ("(?i)abc", "ABC", true),
            ("(?i:a)b", "AB", false),
            ("(?P<name>a)b", "ab", true),
            ("(?<name>a)b", "ab", true),
            ("^abc$", "abc", true),
            ("a\\b.*", "a-", true),
            ("\\Ba", "a", false),
            ("/foo(/.*)?", "/foo", true),
            ("/foo(/.*)?", "/foox", false),
            ("#a", "#a", true),
        ];
        for (pattern, value, expected) in rows {
            let matches = whole(pattern).unwrap_or_else(|error| panic!("{error}")).is_match(value.as_bytes());
            assert_eq!(matches, *expected, "{pattern} on {value:?}");
        }
        assert!(!whole(".").unwrap().is_match(b"\xff"));
        assert!(whole("\\C").unwrap().is_match(b"\xff"));
    }

    #[test]
    fn what_re2_refuses_is_refused_by_name() {
        for pattern in [
            "(",
            ")",
            "[",
            "[a",
            "a)",
            "*a",
            "a\\",
            "\\1",
            "(a)\\1",
            "\\8",
            "\\u{41}",
            "(?x) a",
            "(?u)a",
            "(?R)a",
            "(?=a)",
            "(?!a)",
            "(?<=a)b",
            "a{1001}",
            "a{2,1}",
            "\\p{Nothing}",
            "[[:none:]]",
            "[z-a]",
            "\\xZZ",
            "\\y",
            "[\\b]",
            "(?P=n)",
            "(?P<n>a)(?P<n>b)",
            "\\Z",
            "\\G",
        ] {
            let error = whole(pattern).map(|_| ()).expect_err(pattern);
            assert!(error.contains(&format!("'{pattern}'")) && !error.contains('\n'), "{error}");
        }
        assert_eq!(whole("(.{1000}){1000}").unwrap_err(), "regular expression '(.{1000}){1000}' is too large");
    }

    #[test]
    fn substitutions() {
        let replaced = |pattern: &str, substitution: &str, value: &str| {
            let regex = anywhere(pattern).unwrap();
            let substitution = super::substitution(substitution, &regex).unwrap();
            String::from_utf8(regex.replace_all(value.as_bytes(), substitution.as_bytes()).into()).unwrap()
        };
        assert_eq!(replaced("^/a/([^/]+)/(.*)$", "/\\2/\\1", "/a/b/c/d"), "/c/d/b");
        assert_eq!(replaced("a", "$1\\\\\\0", "xay"), "x$1\\ay");
        assert_eq!(replaced("o", "0", "/foo/o"), "/f00/0");
        assert_eq!(replaced("x*", "-", "abc"), "-a-b-c-");
        let regex = anywhere("(a)").unwrap();
        assert!(substitution("\\2", &regex).unwrap_err().contains("no group 2"));
        assert!(substitution("\\x", &regex).is_err() && substitution("a\\", &regex).is_err());
    }
}
