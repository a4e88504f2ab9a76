use http::HeaderMap;

use crate::routes::proto::{self, HeaderChange, Target};
use crate::routes::testing::{client, compiled, labels, rule, share, Sample};
use crate::routes::{Decision, HeaderChanges, Request, Values, Variable};

struct Known(Sample, HeaderMap);

impl Values for Known {
    fn request(&self) -> Request<'_> {
        self.0.request()
    }

    fn response(&self) -> Option<&HeaderMap> {
        Some(&self.1)
    }

    fn variable(&self, variable: Variable) -> Option<String> {
        (variable == Variable::Protocol).then(|| "HTTP/1.1".to_owned())
    }
}

/// "-name", "name=value" (set), "name+=value" (added).
fn changes(text: &str) -> proto::HeaderChanges {
    let mut sent = proto::HeaderChanges::default();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match (word.strip_prefix('-'), word.split_once("+="), word.split_once('=')) {
            (Some(name), ..) => sent.remove.push(name.into()),
            (_, Some((name, value)), _) => {
                sent.changes.push(HeaderChange { name: name.into(), value: value.into(), append: true });
            }
            (_, _, Some((name, value))) => {
                sent.changes.push(HeaderChange { name: name.into(), value: value.into(), append: false });
            }
            _ => panic!("{word}"),
        }
    }
    sent
}

fn known(request: &str) -> Known {
    let mut response = HeaderMap::new();
    response.insert("server", "x".parse().unwrap());
    Known(Sample::new(request), response)
}

fn text(headers: &HeaderMap) -> String {
    let mut pairs: Vec<_> = headers.iter().map(|(name, value)| format!("{name}:{}", value.to_str().unwrap())).collect();
    pairs.sort_by_key(|pair| pair.split(':').next().map(str::to_owned)); // stable: values of one name keep their order
    pairs.join(" ")
}

#[test]
fn headers_are_removed_then_set_then_added() {
    for (request, sent, expected) in [
        ("a:1", "a=2", "a:2"),
        ("a:1 a:2", "a=3", "a:3"),
        ("", "a=1", "a:1"),
        ("a:1", "a+=2", "a:1 a:2"),
        ("", "a+=2", "a:2"),
        ("a:1 b:2", "-a", "b:2"),
        ("A:1", "-a", ""),
        ("a:1", "-a a+=2", "a:2"),
        ("a:1", "-a a=2 a+=3", "a:2 a:3"),
        ("a:1", "a+=3 a=2", "a:2 a:3"),
        ("a:1", "a=2 a=3", "a:3"),
        ("a:1", "a=", "a:1"),
        // Formatters see the headers before they change.
        ("a:1", "b=%REQ(a)%", "a:1 b:1"),
        ("a:1", "a=2 b=%REQ(A)%", "a:2 b:1"),
        ("", "b=%REQ(a)%", ""),
        ("", "b=x-%REQ(a)%", "b:x-"),
        ("c:3", "b=%REQ(a?c)%", "b:3 c:3"),
        ("a:12345", "b=%REQ(a):3%", "a:12345 b:123"),
        ("", "b=%REQ(:authority)%", "b:h"),
        ("", "b=%REQ(:path)%", "b:/p?q=1"),
        ("", "b=%RESP(server)%", "b:x"),
        ("", "b=%PROTOCOL%", "b:HTTP/1.1"),
        ("", "b=100%%", "b:100%"),
        ("", "b=%%%PROTOCOL%%%", "b:%HTTP/1.1%"),
        ("", "b=%UPSTREAM_HOST%", ""),
    ] {
        let known = known(format!("GET http://h/p?q=1 {request}").trim());
        let mut headers = known.request().headers.clone();
        HeaderChanges::decode(&changes(sent)).unwrap().apply(&mut headers, &known);
        assert_eq!(text(&headers), expected, "{sent} on {request}");
    }
}

#[test]
fn what_cannot_be_changed_is_refused() {
    for (sent, reason) in [
        ("host=a", "Host is changed"),
        (":authority=a", "no name of a header"),
        ("a=%", "single %"),
        ("a=%NOTHING%", "%NOTHING%: this formatter is not supported"),
        ("a=%REQ(a):x%", "no length"),
        ("a=%REQ(,)%", "no name of a header"),
        ("a=\u{1}", "no value of a header"),
        ("-:path", "remove[0]"),
    ] {
        let error = HeaderChanges::decode(&changes(sent)).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
}

/// What the backend of a request sees of header `a`, set by the rule and by its one destination, or the first of two.
#[test]
fn one_destination_has_the_last_word_and_the_rule_over_several() {
    for (shares, expected) in [(1, "a:destination"), (2, "a:rule")] {
        let weighted =
            |_| proto::Weighted { request: Some(changes("a=destination")), ..share(Target::Destination(0), 1) };
        let forward = proto::Forward { destinations: (0..shares).map(weighted).collect(), ..Default::default() };
        let action = Some(proto::Action::Forward(forward));
        let rule = proto::HttpRule { request: Some(changes("a=rule")), action, ..rule("r", &[]) };
        let known = known("GET http://h/");
        let decision = compiled(vec![rule]).decide(&client(&labels("")), &known.request(), |_| 0);
        let Decision::Forward(forwarded) = decision else { panic!("{decision:?}") };
        let mut headers = HeaderMap::new();
        forwarded.weighted().request.iter().for_each(|changes| changes.apply(&mut headers, &known));
        assert_eq!(text(&headers), expected);
    }
}
