use crate::routes::proto::{self, RedirectPath, RewritePath};
use crate::routes::testing::{client, compiled, labels, rule, to, Sample};
use crate::routes::Decision;

fn rewritten(conditions: &str, rewrite: &RewritePath, request: &str) -> String {
    let mut rule = rule("r", &[conditions]);
    let Some(proto::Action::Forward(forward)) = &mut rule.action else { unreachable!() };
    forward.rewrite = Some(proto::Rewrite { path: Some(rewrite.clone()), ..Default::default() });
    let decision = compiled(vec![rule]).decide(&client(&labels("")), &Sample::new(request).request(), |_| 0);
    match decision {
        Decision::Forward(forwarded) => forwarded.path.unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn prefixes_are_replaced_as_strings_by_a_virtual_service() {
    for (conditions, prefix, request, expected) in [
        ("prefix:/v1", "/v2", "/v1/x", "/v2/x"),
        ("prefix:/v1", "/v2", "/v1x", "/v2x"),
        ("prefix:/v1", "/", "/v1/x", "//x"),
        ("prefix:/v1/", "/", "/v1/x", "/x"),
        ("prefix:/v1", "/", "/v1", "/"),
        ("prefix:/V1 nocase", "/v2", "/v1/x", "/v2/x"),
        ("exact:/v1", "/v2", "/v1", "/v2"),
        ("regex:/v.*", "/v2", "/v1/x", "/v2"),
        ("", "/v2/", "/x", "/v2/x"),
        ("method=GET", "/v2", "/x", "/v2x"),
        ("segment:/v1", "/v2", "/v1/x", "/v2/x"),
    ] {
        let request = format!("GET http://h{request}?q=1");
        assert_eq!(
            rewritten(conditions, &RewritePath::Prefix(prefix.into()), &request),
            expected,
            "{conditions} {prefix}"
        );
    }
}

/// The table of Gateway API's HTTPPathModifier.
#[test]
fn segments_are_replaced_by_an_http_route() {
    for (request, prefix, replacement, expected) in [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/foo", "/", "/xyz", "/xyz/foo"),
        ("/", "/", "/xyz", "/xyz/"),
    ] {
        let rewrite = RewritePath::SegmentPrefix(replacement.into());
        let rewritten = rewritten(&format!("segment:{prefix}"), &rewrite, &format!("GET http://h{request}"));
        assert_eq!(rewritten, expected, "{request} {prefix} {replacement}");
    }
}

#[test]
fn whole_paths_and_regular_expressions() {
    let full = RewritePath::Full("/all".into());
    assert_eq!(rewritten("prefix:/v1", &full, "GET http://h/v1/x"), "/all");
    for (pattern, substitution, request, expected) in [
        ("^/service/([^/]+)(/.*)$", "\\2/instance/\\1", "/service/foo/v1/api", "/v1/api/instance/foo"),
        ("one", "two", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/two/zzz"),
        ("^(.*?)one(.*)$", "\\1two\\2", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/one/zzz"),
        ("(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb", "/aaa/yyy/bbb"),
        ("nothing", "x", "/a", "/a"),
    ] {
        let regex = proto::RegexRewrite { pattern: pattern.into(), substitution: substitution.into() };
        assert_eq!(
            rewritten("", &RewritePath::Regex(regex), &format!("GET http://h{request}?one")),
            expected,
            "{pattern}"
        );
    }
}

#[test]
fn authorities_are_rewritten_by_the_rule_before_the_destination() {
    for (by_rule, by_destination, expected) in
        [("", "", None), ("a", "", Some("a")), ("", "b", Some("b")), ("a", "b", Some("a"))]
    {
        let Some(proto::Action::Forward(mut forward)) = Some(to(&[(0, 1)])) else { unreachable!() };
        forward.destinations[0].authority = by_destination.into();
        forward.rewrite = Some(proto::Rewrite { authority: by_rule.into(), ..Default::default() });
        let rule = proto::HttpRule { action: Some(proto::Action::Forward(forward)), ..Default::default() };
        let sample = Sample::new("GET http://h/");
        let decision = compiled(vec![rule]).decide(&client(&labels("")), &sample.request(), |_| 0);
        let Decision::Forward(forwarded) = decision else { panic!("{decision:?}") };
        assert_eq!(forwarded.weighted().authority.as_deref(), expected);
    }
}

fn location(conditions: &str, redirect: proto::Redirect, request: &str) -> String {
    let action = proto::Action::Redirect(proto::Redirect { status: 302, ..redirect });
    let rule = proto::HttpRule { action: Some(action), ..rule("r", &[conditions]) };
    let mut sample = Sample::new(request);
    sample.port = 80;
    match compiled(vec![rule]).decide(&client(&labels("")), &sample.request(), |_| 0) {
        Decision::Redirect { location, status, .. } if status == 302 => location,
        other => panic!("{other:?}"),
    }
}

#[test]
fn locations_follow_the_rules_of_scheme_and_port() {
    let to = |authority: &str, scheme: &str, port: u32, request_port: bool| proto::Redirect {
        authority: authority.into(),
        scheme: scheme.into(),
        port,
        request_port,
        ..Default::default()
    };
    for (redirect, request, expected) in [
        (to("b", "", 0, false), "http://a/x?q=1", "http://b/x?q=1"),
        (to("b", "", 0, false), "http://a:8080/x", "http://b/x"),
        (to("", "https", 0, false), "http://a/x", "https://a/x"),
        // The default port of a scheme that changes goes; one that does not change stays as it was spelled.
        (to("", "https", 0, false), "http://a:80/x", "https://a/x"),
        (to("", "https", 0, false), "http://a:8080/x", "https://a:8080/x"),
        (to("", "http", 0, false), "http://a:80/x", "http://a:80/x"),
        (to("", "http", 0, false), "https://a:443/x", "http://a/x"),
        // A port that is given.
        (to("", "", 8443, false), "http://a/x", "http://a:8443/x"),
        (to("", "", 8443, false), "http://a:80/x", "http://a:8443/x"),
        (to("", "https", 8443, false), "http://a:80/x", "https://a:8443/x"),
        (to("", "https", 443, false), "http://a/x", "https://a/x"),
        (to("", "http", 80, false), "http://a:8080/x", "http://a:8080/x"),
        (to("b", "http", 80, false), "http://a:8080/x", "http://b/x"),
        (to("", "https", 80, false), "http://a/x", "https://a:80/x"),
        // The request's port: the service's.
        (to("", "https", 0, true), "http://a/x", "https://a:80/x"),
        (to("", "", 0, true), "http://a/x", "http://a/x"),
        (to("b", "", 0, true), "http://a/x", "http://b/x"),
        // IPv6.
        (to("", "https", 0, false), "http://[::1]:80/x", "https://[::1]/x"),
        (to("", "", 81, false), "http://[::1]/x", "http://[::1]:81/x"),
    ] {
        let told = format!("{redirect:?}");
        assert_eq!(location("", redirect, &format!("GET {request}")), expected, "{told}");
    }
}

#[test]
fn locations_have_paths_and_queries() {
    let to = |path| proto::Redirect { path: Some(path), ..Default::default() };
    let full = |path: &str| to(RedirectPath::Full(path.into()));
    let prefix = |path: &str| to(RedirectPath::Prefix(path.into()));
    let segments = |path: &str| to(RedirectPath::SegmentPrefix(path.into()));
    for (conditions, redirect, request, expected) in [
        ("", full("/y"), "/x?q=1", "/y?q=1"),
        ("", full("/y?z=2"), "/x?q=1", "/y?z=2"),
        ("prefix:/x", full("/y"), "/x/z", "/y"),
        ("prefix:/x", prefix("/y"), "/x/z?q", "/y/z?q"),
        ("segment:/x", segments("/y"), "/x/z", "/y/z"),
        ("segment:/x", segments("/"), "/x", "/"),
        ("segment:/x", segments("/"), "/x/z", "/z"),
    ] {
        assert_eq!(location(conditions, redirect, &format!("GET http://a{request}")), format!("http://a{expected}"));
    }
}
