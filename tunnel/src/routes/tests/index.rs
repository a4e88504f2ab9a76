//! The index finds what trying all rules one after the other finds.

use std::fmt::Write;

use crate::routes::testing::{client, compiled, labels, rule, Sample};

/// Numbers that are the same in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit
    }

    fn path(&mut self) -> String {
        let mut path = String::new();
        for _ in 0..=self.below(3) {
            let _ = write!(path, "/{}", ["a", "ab", "abc", "B", "v1", ""][self.below(6)]);
        }
        path
    }

    fn conditions(&mut self) -> String {
        let mut conditions = match self.below(8) {
            0 | 1 => format!("exact:{}", self.path()),
            2 | 3 => format!("prefix:{}", self.path()),
            4 => format!("segment:{}", self.path()),
            5 => format!("regex:{}(/.*)?", self.path()),
            _ => String::new(),
        };
        if self.below(4) == 0 && !conditions.is_empty() && !conditions.starts_with("regex") {
            conditions.push_str(" nocase");
        }
        if self.below(3) == 0 {
            let _ = write!(conditions, " h:x{}={}", self.below(2), self.below(3));
        }
        if self.below(6) == 0 {
            let _ = write!(conditions, " q:a={}", self.below(2));
        }
        if self.below(12) == 0 {
            conditions.push_str(" label:app=web");
        }
        conditions
    }

    fn request(&mut self) -> String {
        let mut request = format!("GET http://h{}", self.path());
        for name in 0..self.below(3) {
            let _ = write!(request, " x{name}:{}", self.below(3));
        }
        request
    }
}

#[test]
fn the_index_finds_what_trying_all_finds() {
    let mut chance = Chance(11);
    let pods = [labels(""), labels("app=web")];
    let mut found = 0;
    for _ in 0..300 {
        let size = 1 + chance.below(40);
        let rules = (0..size).map(|_| {
            let matches: Vec<String> = (0..1 + chance.below(3)).map(|_| chance.conditions()).collect();
            rule("r", &matches.iter().map(String::as_str).collect::<Vec<_>>())
        });
        let scope = compiled(rules.collect());
        for _ in 0..40 {
            let text = chance.request();
            let sample = Sample::new(&text);
            let client = client(&pods[chance.below(2)]);
            let all = scope.http.iter().enumerate().find_map(|(place, rule)| {
                let one = rule.matches.iter().position(|one| one.unmet(&client, &sample.request()).is_none())?;
                Some((place, Some(one)))
            });
            assert_eq!(scope.find(&client, &sample.request()), all, "{text} in {:#?}", scope.http);
            found += usize::from(all.is_some_and(|(place, _)| place > 0));
        }
    }
    assert!(found > 3000, "{found}");
}

#[test]
fn the_first_of_equal_rules_holds() {
    for conditions in ["exact:/a", "prefix:/a", "segment:/a", "regex:/a", "h:x=1", "exact:/a nocase", ""] {
        let rules = ["one", "two"].map(|name| rule(name, &[conditions]));
        let scope = compiled(rules.into());
        let sample = Sample::new("GET http://h/a x:1");
        assert_eq!(scope.find(&client(&labels("")), &sample.request()), Some((0, Some(0))), "{conditions}");
    }
}
