//! Requests from outside of the mesh: what their fields say of the way before us is believed of as many proxies as are
//! trusted, as Envoy does it with `use_remote_address`.
use super::node::Edge;
use super::Request;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::Scheme;
use std::net::IpAddr;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");
/// Who proxies within the mesh say that their client has proven to be.
const FORWARDED_CERTIFICATE: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
/// What only proxies within the mesh may say.
const INTERNAL: &str = "x-envoy-";

/// Before anything else is looked at. Gives who has sent it.
pub fn arrive(request: &mut Request, edge: &Edge, client: IpAddr) -> IpAddr {
    request.scheme = if edge.tls { Scheme::HTTPS } else { Scheme::HTTP };
    let headers = &mut request.headers;
    let internal: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with(INTERNAL)).cloned().collect();
    internal.iter().for_each(|name| drop(headers.remove(name)));
    headers.remove(FORWARDED_CERTIFICATE);
    let mut hops = forwarded_for(headers);
    hops.push(client.to_string());
    // The last one we have seen ourselves; each trusted proxy vouches for the one before it.
    let external = hops[hops.len().saturating_sub(edge.trusted_proxies + 1)].parse().unwrap_or(client);
    set(headers, FORWARDED_FOR, &hops.join(","));
    set(headers, EXTERNAL_ADDRESS, &external.to_string());
    if edge.trusted_proxies == 0 || !headers.contains_key(FORWARDED_PROTO) {
        set(headers, FORWARDED_PROTO, request.scheme.as_str());
    }
    external
}

fn forwarded_for(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|hop| hop.trim().to_owned()).filter(|hop| !hop.is_empty()).collect()
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Body;
    use http::{Method, Version};

    fn arrived(tls: bool, trusted_proxies: usize, fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let mut request = Request {
            method: Method::GET,
            scheme: Scheme::HTTP,
            authority: "a".parse().unwrap(),
            path: "/".parse().unwrap(),
            version: Version::HTTP_11,
            headers,
            body: Body::Empty,
            upgrade: None,
            interim: None,
        };
        let (client, local) = ("192.0.2.1".parse().unwrap(), "10.0.0.1:80".parse().unwrap());
        let edge = Edge { identity: None, tls, sni: None, trusted_proxies, peer: client, local };
        let remote = arrive(&mut request, &edge, client);
        assert_eq!(request.headers["x-envoy-external-address"], remote.to_string());
        assert_eq!(request.scheme.as_str(), if tls { "https" } else { "http" });
        request.headers
    }

    #[test]
    fn a_client_is_believed_nothing_of_its_way() {
        let said = [
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-envoy-attempt-count", "9"),
            ("x-forwarded-client-cert", "By=a"),
        ];
        let headers = arrived(false, 0, &said);
        assert_eq!(headers["x-forwarded-for"], "10.0.0.1,192.0.2.1");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-envoy-external-address"], "192.0.2.1");
        assert!(!headers.contains_key("x-envoy-attempt-count") && !headers.contains_key("x-forwarded-client-cert"));
    }

    #[test]
    fn trusted_proxies_say_who_came_to_them() {
        let said = [("x-forwarded-for", "10.0.0.9, 10.0.0.1"), ("x-forwarded-for", "10.0.0.2")];
        for (trusted, expected) in
            [(0, "192.0.2.1"), (1, "10.0.0.2"), (2, "10.0.0.1"), (3, "10.0.0.9"), (9, "10.0.0.9")]
        {
            assert_eq!(arrived(true, trusted, &said)["x-envoy-external-address"], expected, "{trusted}");
        }
        let said = [("x-forwarded-proto", "https")];
        assert_eq!(arrived(false, 1, &said)["x-forwarded-proto"], "https");
        assert_eq!(arrived(true, 1, &[])["x-forwarded-proto"], "https");
    }
}
