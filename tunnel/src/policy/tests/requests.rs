use super::*;
use crate::config::proto::{RequestAttribute, RequestClause, RequestMatch, RequestRule, RequestTest};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

/// A test as text: `method=GET,P*`, `!path=/a/{*}`, `header:x=a`, `claim:n.m=*`, `remote=10.0.0.0/8`.
fn test(text: &str) -> RequestTest {
    let (negated, text) = text.strip_prefix('!').map_or((false, text), |text| (true, text));
    let (name, values) = text.split_once('=').unwrap();
    let (name, path) = name.split_once(':').unwrap_or((name, ""));
    let attribute = match name {
        "host" => RequestAttribute::Host,
        "method" => RequestAttribute::Method,
        "path" => RequestAttribute::Path,
        "header" => RequestAttribute::Header,
        "remote" => RequestAttribute::RemoteAddress,
        "principal" => RequestAttribute::RequestPrincipal,
        "audience" => RequestAttribute::Audience,
        "presenter" => RequestAttribute::Presenter,
        "claim" => RequestAttribute::Claim,
        _ => RequestAttribute::Unspecified,
    };
    let template = |value: &str| proto::StringMatch { match_type: Some(MatchType::Template(value.into())) };
    let value = |value| if str::contains(value, '{') { template(value) } else { string(value) };
    let of_addresses = name == "remote";
    RequestTest {
        attribute: attribute as i32,
        path: path.split('.').filter(|step| !step.is_empty()).map(str::to_owned).collect(),
        values: values.split(',').filter(|_| !of_addresses).map(value).collect(),
        ranges: values.split(',').filter(|_| of_addresses).map(prefix).collect(),
        negated,
    }
}

/// Of one entry; where requests are not seen, as the agent has it.
fn asking(action: Action, tests: &[&str]) -> proto::Rule {
    let matches = vec![RequestMatch { connection: None, tests: tests.iter().map(|text| test(text)).collect() }];
    let request = RequestRule { clauses: vec![RequestClause { matches }], unjudged: String::new() };
    let never = proto::Clause { matches: vec![proto::Match::default()] };
    let clauses = if action == Action::Allow { vec![never] } else { vec![] };
    proto::Rule { clauses, unjudged: "paths".into(), request: Some(request), limit: None }
}

/// What holds for a workload with HTTP at port 8080.
pub(super) fn guarded(policies: &[proto::Authorization]) -> Arc<Guard> {
    let guarded = Guarded { namespace: "default".into(), selected_by: Arc::default(), http_ports: Box::new([8080]) };
    let mut all = Policies::default();
    all.mark_synced();
    for policy in policies {
        let Resource { name, body, .. } = pushed(policy);
        all.insert(&name, Policy::decode(&name, &body)).unwrap();
    }
    all.recompile([guarded.clone()].into_iter());
    all.guard(&guarded).unwrap().clone()
}

pub(super) struct Asked {
    method: &'static str,
    host: &'static str,
    path: &'static str,
    headers: HeaderMap,
    token: Option<Token>,
}

impl Asked {
    pub(super) fn get(path: &'static str) -> Asked {
        Asked { method: "GET", host: "shop", path, headers: HeaderMap::new(), token: None }
    }

    pub(super) fn with(mut self, name: &'static str, value: &'static str) -> Asked {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }

    fn from(mut self, claims: serde_json::Value) -> Asked {
        let claims = claims.as_object().unwrap().clone();
        self.token = Some(Token { principal: Some("i/s".into()), claims, words: Box::new(["own".into()]) });
        self
    }

    pub(super) fn request(&self) -> Request<'_> {
        let Asked { method, host, path, headers, token } = self;
        let remote = "10.0.0.7".parse().unwrap();
        Request { method, authority: host, path, headers, remote, token: token.as_ref() }
    }
}

fn client() -> Attempt {
    attempt("a/client", "10.0.0.1", "10.0.0.2:8080")
}

/// Whether a policy of one rule with these tests matches.
fn fits(action: Action, tests: &[&str], asked: &Asked) -> bool {
    let guard = guarded(&[policy("p", action, vec![asking(action, tests)])]);
    assert_eq!(guard.judge(&client()).verdict, Verdict::NeedsRequest, "{tests:?}");
    (guard.judge_request(&client(), asked.request()).verdict == Verdict::Allowed) == (action == Action::Allow)
}

#[test]
fn every_attribute_of_requests_is_compared() {
    let plain = Asked::get("/a/b");
    let rich = Asked { method: "POST", host: "Shop.example:80", ..Asked::get("/a/b") }
        .with("x", "one")
        .from(json!({ "aud": ["p", "q"], "azp": "p", "n": { "m": ["x", 7] }, "scope": "read write", "own": "c d", "flag": true }));
    for (text, [of_plain, of_rich]) in [
        ("method=GET", [true, false]),
        ("method=get", [false, false]),
        ("method=P*", [false, true]),
        ("!method=GET,PUT", [false, true]),
        ("path=/a/b", [true, true]),
        ("path=/a/", [false, false]),
        ("path=/a/*", [true, true]),
        ("path=*/b", [true, true]),
        ("path=/{*}/b,/x", [true, true]),
        ("!path=/a/{**}", [false, false]),
        ("host=shop", [true, false]),
        ("host=SHOP.EXAMPLE:80", [false, true]),
        ("host=shop*", [true, true]),
        ("header:x=one", [false, true]),
        ("header:x=*", [false, true]),
        ("!header:x=one", [true, false]),
        ("header:host=shop", [true, false]),
        ("header::method=POST", [false, true]),
        ("remote=10.0.0.0/24", [true, true]),
        ("!remote=10.0.0.7/32", [false, false]),
        ("principal=i/s", [false, true]),
        ("!principal=*", [true, false]),
        ("audience=q", [false, true]),
        ("presenter=p", [false, true]),
        ("claim:n.m=x", [false, true]),
        ("claim:n.m=7", [false, false]),
        ("claim:n=x", [false, false]),
        ("claim:scope=read", [false, true]),
        ("claim:own=d", [false, true]),
        ("claim:flag=true", [false, false]),
    ] {
        for action in [Action::Allow, Action::Deny] {
            let found = [fits(action, &[text], &plain), fits(action, &[text], &rich)];
            assert_eq!(found, [of_plain, of_rich], "{action:?} {text}");
        }
    }
    assert!(
        fits(Action::Deny, &["method=GET", "path=/a*"], &plain)
            && !fits(Action::Deny, &["method=GET", "path=/b"], &plain)
    );
}

#[test]
fn what_is_written_in_another_way_gets_no_further() {
    let header = |values: &[&'static str]| values.iter().fold(Asked::get("/"), |asked, value| asked.with("x", value));
    let host = |host| Asked { host, ..Asked::get("/") };
    let paths = ["//admin", "/admin%2f", "/x/..%2fadmin", "/admin;x", "/x/..;/admin", "/%2561dmin", "/x%5c..%5cadmin"];
    let hosts = ["SHOP", "shop:80", "shop.", "Shop.:8080"];
    let of_paths = paths.map(|path| ("path=/admin,/admin/", Asked::get(path))).into_iter();
    let of_hosts = hosts.map(|name| ("host=shop", host(name))).into_iter();
    let of_headers = [header(&["a", "b"]), header(&["b", "a"])].map(|asked| ("header:x=a", asked)).into_iter();
    for (text, asked) in of_paths.chain(of_hosts).chain(of_headers) {
        let told = format!("{text} {} {} {:?}", asked.host, asked.path, asked.headers);
        assert!(fits(Action::Deny, &[text], &asked), "DENY {told}");
        assert!(!fits(Action::Allow, &[&format!("!{text}")], &asked), "ALLOW ! {told}");
    }
    for path in [
        "/open/..%2fadmin",
        "/open/..;/admin",
        "/open/%252e%252e/admin",
        "/open/x/..;y/..%2f..%2fadmin",
        "/open//..;x/admin",
    ] {
        assert!(!fits(Action::Allow, &["path=/open/*"], &Asked::get(path)), "ALLOW {path}");
        assert!(fits(Action::Deny, &["!path=/open/*"], &Asked::get(path)), "DENY ! {path}");
    }
    assert!(
        fits(Action::Allow, &["path=/open/*"], &Asked::get("/open/a%2fb;x")),
        "it is within, whatever it is taken for"
    );
    assert!(!fits(Action::Allow, &["header:x=a"], &header(&["a", "b"])));
    assert!(!fits(Action::Allow, &["host=shop"], &host("shop:80")), "as Istio: h and h:* are two values");
}

#[test]
fn only_what_depends_on_requests_waits_for_them() {
    let admin = proto::Rule { request: None, ..rule(&[&["namespaces=admin"]]) };
    let mut get = asking(Action::Allow, &["method=GET"]);
    let of_namespace = RequestMatch { connection: Some(matching("namespaces=a")), tests: vec![] };
    get.request.as_mut().unwrap().clauses.push(RequestClause { matches: vec![of_namespace] });
    let guard = guarded(&[
        policy("allow", Action::Allow, vec![admin, get]),
        policy("deny", Action::Deny, vec![rule(&[&["namespaces=evil"]])]),
    ]);
    let connection = |peer, to| guard.judge(&attempt(peer, "10.0.0.1", to)).verdict;
    let denied = Verdict::Denied("default/deny".into());
    for (peer, at_http, elsewhere) in [
        ("admin/x", Verdict::Allowed, Verdict::Allowed),
        ("a/x", Verdict::NeedsRequest, Verdict::NotAllowed),
        ("evil/x", denied.clone(), denied),
        ("other/x", Verdict::NeedsRequest, Verdict::NotAllowed),
    ] {
        assert_eq!(connection(peer, "10.0.0.2:8080"), at_http, "{peer}");
        assert_eq!(connection(peer, "10.0.0.2:81"), elsewhere, "{peer}");
    }
    let request = |peer, method| {
        let asked = Asked { method, ..Asked::get("/") };
        guard.judge_request(&attempt(peer, "10.0.0.1", "10.0.0.2:8080"), asked.request()).verdict
    };
    assert_eq!(request("a/x", "GET"), Verdict::Allowed);
    assert_eq!(request("a/x", "POST"), Verdict::NotAllowed);
    assert_eq!(request("other/x", "GET"), Verdict::NotAllowed, "it is told so in HTTP");
    assert_eq!(request("admin/x", "POST"), Verdict::Allowed);
}

#[test]
fn a_test_that_is_not_understood_is_refused() {
    for (text, reason) in [
        ("other=x", "a request's attribute is not named"),
        ("header=x", "a request's attribute has no name"),
        ("header:a b=x", "\"a b\" names no header"),
        ("method=/{*}", "a template is of a request's path"),
        ("path=/{**}/a", "\"{**}\" is no segment of a path template"),
    ] {
        let pushed = pushed(&policy("p", Action::Deny, vec![asking(Action::Deny, &[text])]));
        assert_eq!(Policy::decode(&pushed.name, &pushed.body).unwrap_err().reason, reason);
    }
    let template = proto::StringMatch { match_type: Some(MatchType::Template("/{*}".into())) };
    let of_caller = proto::Match { principals: vec![template], ..proto::Match::default() };
    let clauses = vec![proto::Clause { matches: vec![of_caller] }];
    let pushed = pushed(&policy("p", Action::Deny, vec![proto::Rule { clauses, ..proto::Rule::default() }]));
    assert_eq!(Policy::decode(&pushed.name, &pushed.body).unwrap_err().reason, "a template is of a request's path");
}
