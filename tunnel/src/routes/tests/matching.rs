use crate::routes::testing::{client, compiled, labels, rule, Sample};

/// A match, a request, whether it holds. The client is in namespace `shop`, with the label app=web.
const ROWS: &[(&str, &str, bool)] = &[
    // No condition.
    ("", "GET http://a/", true),
    ("", "POST http://a/x?y=z", true),
    // Paths, plain.
    ("exact:/a", "GET http://h/a", true),
    ("exact:/a", "GET http://h/a?x=1", true),
    ("exact:/a", "GET http://h/a/", false),
    ("exact:/a", "GET http://h/A", false),
    ("exact:/a", "GET http://h/", false),
    ("exact:/", "GET http://h/", true),
    ("exact:/a nocase", "GET http://h/A", true),
    ("exact:/Ab nocase", "GET http://h/aB", true),
    ("exact:/a nocase", "GET http://h/B", false),
    ("prefix:/v2", "GET http://h/v2", true),
    ("prefix:/v2", "GET http://h/v2/", true),
    ("prefix:/v2", "GET http://h/v2x", true),
    ("prefix:/v2", "GET http://h/v2/x", true),
    ("prefix:/v2", "GET http://h/v", false),
    ("prefix:/v2", "GET http://h/V2", false),
    ("prefix:/v2/", "GET http://h/v2", false),
    ("prefix:/", "GET http://h/anything", true),
    ("prefix:/v2 nocase", "GET http://h/V2X", true),
    ("prefix:/V2 nocase", "GET http://h/v2", true),
    // Paths, by segments.
    ("segment:/foo", "GET http://h/foo", true),
    ("segment:/foo", "GET http://h/foo/", true),
    ("segment:/foo", "GET http://h/foo/x", true),
    ("segment:/foo", "GET http://h/foox", false),
    ("segment:/foo", "GET http://h/fo", false),
    ("segment:/foo/", "GET http://h/foo", true),
    ("segment:/foo/", "GET http://h/foo/x", true),
    ("segment:/foo/", "GET http://h/foox", false),
    ("segment:/", "GET http://h/", true),
    ("segment:/", "GET http://h/x/y", true),
    ("segment:/foo nocase", "GET http://h/FOO/x", true),
    ("segment:/foo nocase", "GET http://h/FOOx", false),
    // Paths, by regular expressions: the whole path, never the query.
    ("regex:/v\\d+/.*", "GET http://h/v1/x", true),
    ("regex:/v\\d+/.*", "GET http://h/vx/x", false),
    ("regex:/v\\d", "GET http://h/v1/x", false),
    ("regex:/v\\d", "GET http://h/x/v1", false),
    ("regex:/v1", "GET http://h/v1?q", true),
    ("regex:.*", "GET http://h/", true),
    ("regex:/a|/b", "GET http://h/b", true),
    ("regex:/a|/b", "GET http://h/bc", false),
    ("regex:(?i)/a", "GET http://h/A", true),
    ("regex:.*/Method", "POST http://h/pkg.Service/Method", true),
    // Methods, schemes, authorities.
    ("method=GET", "GET http://h/", true),
    ("method=GET", "POST http://h/", false),
    ("method=get", "GET http://h/", false),
    ("methodi=get", "GET http://h/", true),
    ("method^=P", "PUT http://h/", true),
    ("method~=GET|HEAD", "HEAD http://h/", true),
    ("method~=GET|HEAD", "DELETE http://h/", false),
    ("scheme=http", "GET http://h/", true),
    ("scheme=https", "GET http://h/", false),
    ("authority=reviews", "GET http://reviews/", true),
    ("authority=reviews", "GET http://reviews:9080/", false),
    ("authority=reviews:9080", "GET http://reviews:9080/", true),
    ("authority^=reviews", "GET http://reviews:9080/", true),
    ("authority=reviews", "GET http://Reviews/", false),
    ("authority$=.com", "GET http://a.com/", true),
    ("authority$=.com", "GET http://com/", false),
    ("authority~=a[.]com(:\\d+)?", "GET http://a.com:80/", true),
    ("authority~=a[.]com(:\\d+)?", "GET http://aacom/", false),
    // Headers.
    ("h:user=jason", "GET http://h/ user:jason", true),
    ("h:user=jason", "GET http://h/ User:jason", true),
    ("h:User=jason", "GET http://h/ user:jason", true),
    ("h:user=jason", "GET http://h/ user:Jason", false),
    ("h:user=jason", "GET http://h/ user:jasonx", false),
    ("h:user=jason", "GET http://h/", false),
    ("h:user,i=JASON", "GET http://h/ user:jason", true),
    ("h:user^=ja", "GET http://h/ user:jason", true),
    ("h:user^=ja", "GET http://h/ user:j", false),
    ("h:user,i^=JA", "GET http://h/ user:jason", true),
    ("h:user$=on", "GET http://h/ user:jason", true),
    ("h:user$=on", "GET http://h/ user:n", false),
    ("h:user~=j.*", "GET http://h/ user:jason", true),
    ("h:user~=j", "GET http://h/ user:jason", false),
    ("h:user~=.*", "GET http://h/", false),
    ("h:user~=.*", "GET http://h/ user:", true),
    ("h:user?", "GET http://h/ user:x", true),
    ("h:user?", "GET http://h/ user:", true),
    ("h:user?", "GET http://h/", false),
    ("h:a=1 h:b=2", "GET http://h/ a:1 b:2", true),
    ("h:a=1 h:b=2", "GET http://h/ a:1", false),
    ("h:a=1,2", "GET http://h/ a:1 a:2", false),
    ("h:a=1", "GET http://h/ a:1 a:2", true),
    ("h:a=2", "GET http://h/ a:1 a:2", true),
    ("h:a~=.*2.*", "GET http://h/ a:1 a:2", true),
    ("h::method=GET", "GET http://h/", true),
    ("h::method=GET", "PUT http://h/", false),
    ("h::authority=h", "GET http://h/", true),
    ("h:host=h", "GET http://h/", true),
    ("h::scheme=http", "GET http://h/", true),
    ("h::path=/a?b=c", "GET http://h/a?b=c", true),
    ("h::path=/a", "GET http://h/a?b=c", false),
    ("h::path=/a", "GET http://h/a", true),
    ("h::path^=/a", "GET http://h/a?b=c", true),
    // Headers that must not match; a missing one is taken as empty.
    ("!h:user=jason", "GET http://h/", true),
    ("!h:user=jason", "GET http://h/ user:x", true),
    ("!h:user=jason", "GET http://h/ user:jason", false),
    ("!h:user=jason", "GET http://h/ user:x user:jason", false),
    ("!h:user=", "GET http://h/", false),
    ("!h:user^=ja", "GET http://h/ user:jane", false),
    ("!h:user^=ja", "GET http://h/", true),
    ("!h:user~=.*", "GET http://h/", false),
    ("!h:user~=.+", "GET http://h/", true),
    ("!h:user~=j.*", "GET http://h/ user:jason", false),
    ("!h:user?", "GET http://h/", true),
    ("!h:user?", "GET http://h/ user:", false),
    ("!h:a? !h:b?", "GET http://h/ b:1", false),
    ("h:a? !h:b?", "GET http://h/ a:1", true),
    // Queries: the first value, as written.
    ("q:a=1", "GET http://h/?a=1", true),
    ("q:a=1", "GET http://h/?b=2&a=1", true),
    ("q:a=1", "GET http://h/?a=2&a=1", false),
    ("q:a=1", "GET http://h/?a=1&a=2", true),
    ("q:a=1", "GET http://h/?A=1", false),
    ("q:a=1", "GET http://h/", false),
    ("q:a=", "GET http://h/?a", true),
    ("q:a=", "GET http://h/?a=", true),
    ("q:a=", "GET http://h/?a=1", false),
    ("q:a=", "GET http://h/", false),
    ("q:a?", "GET http://h/?a", true),
    ("q:a?", "GET http://h/?a=7", true),
    ("q:a?", "GET http://h/?b", false),
    ("q:a?", "GET http://h/?ab", false),
    ("q:a^=x", "GET http://h/?a=xy", true),
    ("q:a~=\\d+", "GET http://h/?a=12", true),
    ("q:a~=\\d+", "GET http://h/?a=12x", false),
    ("q:a=b=c", "GET http://h/?a=b=c", true),
    ("q:a=x%20y", "GET http://h/?a=x%20y", true),
    ("q:a=1 q:b=2", "GET http://h/?a=1&b=2", true),
    ("q:a=1 q:b=2", "GET http://h/?a=1&b=3", false),
    // Ports and clients.
    ("port:9080", "GET http://h/", true),
    ("port:80", "GET http://h/", false),
    ("from:shop", "GET http://h/", true),
    ("from:other", "GET http://h/", false),
    ("label:app=web", "GET http://h/", true),
    ("label:app=api", "GET http://h/", false),
    ("label:tier=web", "GET http://h/", false),
    ("label:app=web label:tier=x", "GET http://h/", false),
    // All of them.
    ("prefix:/a method=GET h:x=1 q:b=2 from:shop label:app=web port:9080", "GET http://h/a?b=2 x:1", true),
    ("prefix:/a method=GET h:x=1 q:b=2 from:shop label:app=web port:9080", "GET http://h/a?b=3 x:1", false),
];

#[test]
fn conditions_hold_as_the_apis_say() {
    let pod = labels("app=web");
    for (conditions, request, expected) in ROWS {
        let scope = compiled(vec![rule("r", &[conditions])]);
        let found = scope.find(&client(&pod), &Sample::new(request).request());
        assert_eq!(found.is_some(), *expected, "{conditions} on {request}");
        let tested = scope.http[0].matches[0].unmet(&client(&pod), &Sample::new(request).request()).is_none();
        assert_eq!(tested, *expected, "{conditions} on {request}, without the index");
    }
}

#[test]
fn values_that_are_no_text_match_by_bytes() {
    let mut sample = http::HeaderMap::new();
    sample.insert("a", http::HeaderValue::from_bytes(b"x\xffy").unwrap());
    let plain = Sample::new("GET http://h/");
    let request = crate::routes::Request { headers: &sample, ..plain.request() };
    for (conditions, expected) in [("h:a^=x", true), ("h:a~=.*", false), ("h:a~=x\\Cy", true), ("h:a?", true)] {
        let found = compiled(vec![rule("r", &[conditions])]).find(&client(&labels("")), &request);
        assert_eq!(found.is_some(), expected, "{conditions}");
    }
}

#[test]
fn a_mismatch_is_named() {
    let rows = [
        ("prefix:/a", "GET http://h/b", "path is not '/a...'"),
        ("segment:/a/", "GET http://h/b", "path is not '/a/...'"),
        ("exact:/a nocase", "GET http://h/b", "path is not '/a' (ignoring case)"),
        ("regex:/a", "GET http://h/b", "path is not regex '/a'"),
        ("method=PUT", "GET http://h/", "method is not 'PUT'"),
        ("scheme=https", "GET http://h/", "scheme is not 'https'"),
        ("authority$=x", "GET http://h/", "authority is not '...x'"),
        ("h:a?", "GET http://h/", "header a is missing"),
        ("h:a=1", "GET http://h/ a:2", "header a is not '1'"),
        ("!h:a?", "GET http://h/ a:2", "header a is present, which withoutHeaders excludes"),
        ("q:a=1", "GET http://h/", "query parameter a is missing"),
        ("q:a~=1", "GET http://h/?a=2", "query parameter a is not regex '1'"),
        ("port:80", "GET http://h/", "port is not 80"),
        ("from:x", "GET http://h/", "source namespace is not 'x'"),
        ("label:app=x", "GET http://h/", "source label app is not 'x'"),
    ];
    for (conditions, request, expected) in rows {
        let scope = compiled(vec![rule("r", &[conditions])]);
        let sample = Sample::new(request);
        let pod = labels("");
        let unmet = scope.http[0].matches[0].unmet(&client(&pod), &sample.request()).unwrap();
        assert_eq!(unmet.mismatch(&sample.request()), expected);
    }
}
