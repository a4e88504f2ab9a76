//! External authorization in plain HTTP: the request without its body is repeated to the authorizer, whose 200 lets it on.

use http::header::{
    HeaderMap, HeaderName, AUTHORIZATION, CONTENT_LENGTH, DATE, HOST, LOCATION, SERVER, WWW_AUTHENTICATE,
};
use http::{Method, StatusCode, Version};

use super::{Answer, Reply};
use crate::http::{Body, Request};
use crate::policy::HttpAuthorizer;

/// The question about a request. Errors: there is none, its path cannot follow the prefix.
pub fn question(to: &HttpAuthorizer, request: &Request) -> Result<Request, String> {
    if request.method == Method::CONNECT {
        return Err("a CONNECT cannot be repeated to it".to_owned());
    }
    let path = format!("{}{}", to.path_prefix, request.path);
    let told = |name: &HeaderName| {
        *name == AUTHORIZATION || *name != CONTENT_LENGTH && to.request_headers.contain(name.as_str())
    };
    let mut headers = picked(&request.headers, told);
    headers.extend(to.additional_headers.clone());
    Ok(Request {
        method: request.method.clone(),
        scheme: http::uri::Scheme::HTTP,
        authority: request.authority.clone(),
        path: path.try_into().map_err(|_| format!("pathPrefix {:?} begins no path", to.path_prefix))?,
        version: Version::HTTP_11,
        headers,
        body: Body::Empty,
        upgrade: None,
        interim: None,
    })
}

/// What its answer says; the request gets what is to go on with it. Errors: it is none (5xx).
pub fn answer(of: &HttpAuthorizer, reply: Reply, request: &mut Request) -> Result<Answer, String> {
    let Reply { status, headers, body, .. } = reply;
    if status.is_server_error() {
        return Err(format!("it answers {status}"));
    }
    if status == StatusCode::OK {
        let on = picked(&headers, |name| of.to_upstream.contain(name.as_str()));
        request.headers.extend(on);
        return Ok(Answer::Allowed(picked(&headers, |name| of.to_downstream_on_allow.contain(name.as_str()))));
    }
    let back = |name: &HeaderName| match &of.to_downstream_on_deny {
        None => ![HOST, CONTENT_LENGTH, DATE, SERVER].contains(name), // those are this answer's own
        Some(names) => *name == WWW_AUTHENTICATE || *name == LOCATION || names.contain(name.as_str()),
    };
    Ok(Answer::Denied { status, headers: picked(&headers, back), body })
}

fn picked(headers: &HeaderMap, wanted: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    let mut picked = HeaderMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| wanted(name)) {
        picked.append(name, value.clone());
    }
    picked
}
