use super::*;
use crate::config::proto;
use crate::policy::jwt::{authenticate, TokenRule};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine;
use http::header::{HeaderMap, HeaderName, HeaderValue, AUTHORIZATION};
use serde_json::{json, Value};

const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://issuer";

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Signs, and has a JSON Web Key.
struct Signer {
    algorithm: &'static str,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair, &'static str),
    Ed(Ed25519KeyPair),
}

impl Signer {
    fn new(algorithm: &'static str) -> Signer {
        let ec = |of, curve| Pair::Ec(EcdsaKeyPair::generate(of).unwrap(), curve);
        let pair = match algorithm {
            "ES256" => ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, "P-256"),
            "ES384" => ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, "P-384"),
            "ES512" => ec(&signature::ECDSA_P521_SHA512_FIXED_SIGNING, "P-521"),
            "EdDSA" => Pair::Ed(Ed25519KeyPair::generate().unwrap()),
            _ => Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
        };
        Signer { algorithm, pair }
    }

    fn key(&self, id: &str) -> Value {
        match &self.pair {
            Pair::Rsa(pair) => {
                let public = pair.public_key();
                let [n, e] =
                    [public.modulus(), public.exponent()].map(|part| encoded(part.big_endian_without_leading_zero()));
                json!({ "kty": "RSA", "kid": id, "n": n, "e": e })
            }
            Pair::Ec(pair, curve) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({ "kty": "EC", "kid": id, "crv": curve, "x": encoded(x), "y": encoded(y) })
            }
            Pair::Ed(pair) => json!({ "kty": "OKP", "kid": id, "crv": "Ed25519", "x": encoded(pair.public_key()) }),
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let padding: &dyn signature::RsaEncoding = match self.algorithm {
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    "PS512" => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signed = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut signed).unwrap();
                signed
            }
            Pair::Ec(pair, _) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    fn token(&self, head: Value, claims: &Value) -> String {
        let message = format!("{}.{}", encoded(head.to_string()), encoded(claims.to_string()));
        let signature = self.sign(message.as_bytes());
        format!("{message}.{}", encoded(signature))
    }

    fn good(&self) -> String {
        self.token(json!({ "alg": self.algorithm, "kid": "k", "typ": "JWT" }), &claims())
    }
}

fn claims() -> Value {
    json!({ "iss": ISSUER, "sub": "alice", "aud": ["shop", "bank"], "exp": NOW + 10, "nbf": NOW - 10, "n": { "m": ["x"] } })
}

fn but(name: &str, value: Value) -> Value {
    let mut changed = claims();
    changed[name] = value;
    changed
}

/// Tokens in `Authorization` and `access_token`, with these keys.
fn rule(keys: &[Value]) -> proto::JwtRule {
    proto::JwtRule {
        issuer: ISSUER.into(),
        audiences: vec!["shop".into()],
        jwks: json!({ "keys": keys }).to_string(),
        from_headers: vec![proto::JwtHeader { name: "authorization".into(), prefix: "Bearer ".into() }],
        from_params: vec!["access_token".into()],
        ..proto::JwtRule::default()
    }
}

fn bearing(tokens: &[&str]) -> HeaderMap {
    let value = |token: &&str| (AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
    tokens.iter().map(value).collect()
}

fn asked(
    rules: &[proto::JwtRule],
    headers: &mut HeaderMap,
    query: Option<&str>,
) -> Result<Authenticated, &'static str> {
    let rules: Vec<TokenRule> = rules.iter().map(|rule| TokenRule::decode(rule).unwrap()).collect();
    authenticate(&rules.iter().collect::<Vec<_>>(), Carrier { headers, query }, NOW)
}

fn said(rule: &proto::JwtRule, token: &str) -> Result<String, &'static str> {
    let found = asked(std::slice::from_ref(rule), &mut bearing(&[token]), None)?;
    Ok(found.token.and_then(|token| token.principal).unwrap_or_default().into())
}

#[test]
fn every_algorithm_is_verified() {
    let algorithms = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];
    for algorithm in algorithms {
        let signer = Signer::new(algorithm);
        let (rule, good) = (rule(&[signer.key("k")]), signer.good());
        assert_eq!(said(&rule, &good).as_deref(), Ok("https://issuer/alice"), "{algorithm}");
        let (message, _) = good.rsplit_once('.').unwrap();
        let other = Signer::new(algorithm);
        for forged in [format!("{message}.{}", encoded(other.sign(message.as_bytes()))), format!("{message}.")] {
            assert_eq!(said(&rule, &forged), Err("Jwt verification fails"), "{algorithm}");
        }
    }
}

#[test]
fn what_is_wrong_with_a_token_is_told() {
    let signer = Signer::new("ES256");
    let rule = rule(&[signer.key("k")]);
    let head = |alg: &str| json!({ "alg": alg, "kid": "k" });
    let with = |claims: &Value| signer.token(head("ES256"), claims);
    let unsigned = format!("{}.{}.", encoded(head("none").to_string()), encoded(claims().to_string()));
    let no_key = "Jwks doesn't have key to match kid or alg from Jwt";
    let malformed = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections";
    for (token, expected) in [
        (with(&but("exp", json!(NOW - 61))), "Jwt is expired"),
        (with(&but("nbf", json!(NOW + 61))), "Jwt not yet valid"),
        (with(&but("exp", json!("soon"))), malformed),
        (with(&but("iss", json!("https://other"))), "Jwt issuer is not configured"),
        (with(&but("aud", json!("bank"))), "Audiences in Jwt are not allowed"),
        (with(&but("aud", Value::Null)), "Audiences in Jwt are not allowed"),
        (signer.token(json!({ "alg": "ES256", "kid": "other" }), &claims()), no_key),
        (signer.token(head("ES384"), &claims()), no_key),
        (signer.token(head("none"), &claims()), no_key),
        (signer.token(head("None"), &claims()), no_key),
        (signer.token(head("HS256"), &claims()), no_key),
        (unsigned, no_key),
        (signer.token(json!({ "alg": "ES256", "kid": "../../k' OR 1=1" }), &claims()), no_key),
        (signer.token(json!({ "alg": "ES256", "kid": "k", "typ": "logout+jwt" }), &claims()), "Jwt verification fails"),
        (signer.token(json!({ "alg": "ES256", "kid": "k", "crit": ["x"] }), &claims()), "Jwt verification fails"),
        (with(&but("x", json!("a".repeat(17 << 10)))), "Jwt is too long"),
        ("a.b".to_owned(), malformed),
        ("a.b.c.d".to_owned(), malformed),
        ("e30=.e30.x".to_owned(), "Jwt header is an invalid Base64url encoded"),
        (format!("{}.e30.x", encoded("[]")), "Jwt header is an invalid JSON"),
    ] {
        assert_eq!(said(&rule, &token), Err(expected), "{token}");
    }
    for good in [but("exp", json!(NOW - 59)), but("nbf", json!(NOW + 59)), but("aud", json!("shop"))] {
        assert!(said(&rule, &with(&good)).is_ok(), "{good}");
    }
    let stale = proto::JwtRule { jwks: String::new(), ..rule };
    assert_eq!(said(&stale, &signer.good()), Err(no_key), "its keys could not be had");
}

#[test]
fn a_public_key_is_never_a_secret() {
    let signer = Signer::new("RS256");
    let key = signer.key("k");
    let forged = |secret: &[u8]| {
        let message =
            format!("{}.{}", encoded(json!({ "alg": "HS256", "kid": "k" }).to_string()), encoded(claims().to_string()));
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
        format!("{message}.{}", encoded(aws_lc_rs::hmac::sign(&key, message.as_bytes())))
    };
    let modulus = URL_SAFE_NO_PAD.decode(key["n"].as_str().unwrap()).unwrap();
    let symmetric = json!({ "kty": "oct", "kid": "k", "k": encoded(&modulus) });
    for keys in [vec![key.clone()], vec![key, symmetric]] {
        let expected = Err("Jwks doesn't have key to match kid or alg from Jwt");
        assert_eq!(said(&rule(&keys), &forged(&modulus)), expected);
    }
}

#[test]
fn all_tokens_of_a_request_have_to_be_valid() {
    let signer = Signer::new("EdDSA");
    let rule = rule(&[signer.key("")]);
    let (good, bad) = (signer.good(), Signer::new("EdDSA").good());
    let answer = |tokens: &[&str], query: Option<&str>| {
        asked(std::slice::from_ref(&rule), &mut bearing(tokens), query).map(|found| found.token.is_some())
    };
    assert_eq!(answer(&[], None), Ok(false));
    assert_eq!(answer(&[&good], None), Ok(true));
    assert_eq!(answer(&[&good, &good], None), Ok(true));
    assert_eq!(answer(&[&good, &bad], None), Err("Jwt verification fails"));
    assert_eq!(answer(&[&bad, &good], None), Err("Jwt verification fails"));
    assert_eq!(answer(&[&good], Some(&format!("a=1&access_token={bad}"))), Err("Jwt verification fails"));
    assert_eq!(answer(&[], Some(&format!("access_token={good}"))), Ok(true));
    let mut basic: HeaderMap = [(AUTHORIZATION, HeaderValue::from_static("Basic YTpi"))].into_iter().collect();
    assert!(asked(std::slice::from_ref(&rule), &mut basic, None).unwrap().token.is_none());
    assert!(basic.contains_key(AUTHORIZATION), "it is not ours");
}

#[test]
fn several_rules_have_their_own_tokens() {
    let [one, two] = ["ES256", "EdDSA"].map(Signer::new);
    let of_two = proto::JwtRule { issuer: "https://two".into(), ..rule(&[two.key("k")]) };
    let rules = [rule(&[one.key("k")]), of_two];
    let token = two.token(json!({ "alg": "EdDSA", "kid": "k" }), &but("iss", json!("https://two")));
    let found = asked(&rules, &mut bearing(&[&token]), None).unwrap();
    assert_eq!(found.token.unwrap().principal.as_deref(), Some("https://two/alice"));
    let confused = two.token(json!({ "alg": "EdDSA", "kid": "k" }), &claims());
    let no_key = "Jwks doesn't have key to match kid or alg from Jwt";
    assert_eq!(asked(&rules, &mut bearing(&[&confused]), None).unwrap_err(), no_key, "of one's issuer, by two's key");
}

#[test]
fn what_goes_on_is_what_the_rule_says() {
    let signer = Signer::new("ES256");
    let token = signer.good();
    let name = HeaderName::from_static;
    let out = proto::JwtRule {
        output_payload_to_header: "x-payload".into(),
        output_claim_to_headers: [("x-sub", "sub"), ("x-deep", "n.m"), ("x-none", "none")]
            .map(|(header, claim)| proto::ClaimToHeader { header: header.into(), claim: claim.into() })
            .into(),
        from_cookies: vec!["session".into()],
        ..rule(&[signer.key("k")])
    };
    let spoofed = |tokens: &[&str]| {
        let mut headers = bearing(tokens);
        for header in ["x-payload", "x-sub", "x-deep", "x-none"] {
            headers.insert(name(header), HeaderValue::from_static("spoofed"));
        }
        headers
    };
    let mut nobody = spoofed(&[]);
    asked(std::slice::from_ref(&out), &mut nobody, None).unwrap();
    assert!(nobody.is_empty(), "what the mesh says nobody else may say: {nobody:?}");

    let mut headers = spoofed(&[&token]);
    asked(std::slice::from_ref(&out), &mut headers, None).unwrap();
    assert!(!headers.contains_key(AUTHORIZATION));
    assert_eq!(headers[name("x-payload")], token.split('.').nth(1).unwrap());
    assert_eq!(
        (&headers[name("x-sub")], &headers[name("x-deep")]),
        (&"alice".parse().unwrap(), &"[\"x\"]".parse().unwrap())
    );
    assert!(!headers.contains_key(name("x-none")));

    let query = format!("a=1&access_token={token}&b=2");
    let found = asked(std::slice::from_ref(&out), &mut HeaderMap::new(), Some(&query)).unwrap();
    assert_eq!(found.query, Some(Some("a=1&b=2".to_owned())));
    let only = format!("access_token={token}");
    assert_eq!(asked(std::slice::from_ref(&out), &mut HeaderMap::new(), Some(&only)).unwrap().query, Some(None));
    let cookie = HeaderValue::from_str(&format!("a=b; session={token}")).unwrap();
    let mut cookies: HeaderMap = [(http::header::COOKIE, cookie)].into_iter().collect();
    assert!(asked(std::slice::from_ref(&out), &mut cookies, None).unwrap().token.is_some());

    let forward = proto::JwtRule { forward_original_token: true, ..out };
    let mut headers = bearing(&[&token]);
    asked(&[forward], &mut headers, None).unwrap();
    assert!(headers.contains_key(AUTHORIZATION));
}
