//! JSON Web Keys (RFC 7517, 7518, 8037) and the signatures that they verify. Symmetric keys are never taken: whoever could
//! verify with one could sign as well.

use aws_lc_rs::signature::{
    self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm, ECDSA_P256_SHA256_FIXED,
    ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
};
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine;
use serde::Deserialize;

/// The keys of an issuer.
#[derive(Debug, Default, PartialEq)]
pub struct Keys(Box<[Key]>);

#[derive(Debug, PartialEq)]
struct Key {
    /// Empty: any `kid` may mean it.
    id: Box<str>,
    /// Empty: any that fits its kind.
    algorithm: Box<str>,
    public: Public,
}

#[derive(Debug, PartialEq)]
enum Public {
    Rsa {
        n: Box<[u8]>,
        e: Box<[u8]>,
    },
    /// Uncompressed, with the algorithm of its curve.
    Point(&'static str, Box<[u8]>),
    Ed25519(Box<[u8]>),
}

#[derive(Deserialize)]
struct SentSet {
    keys: Vec<SentKey>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct SentKey {
    kty: String,
    kid: String,
    alg: String,
    r#use: String,
    crv: String,
    n: String,
    e: String,
    x: String,
    y: String,
}

impl Keys {
    /// Keys of other kinds and uses are passed over.
    pub fn parse(jwks: &str) -> Result<Keys, String> {
        let sent: SentSet = serde_json::from_str(jwks).map_err(|error| format!("jwks: {error}"))?;
        let known = sent.keys.iter().filter(|key| key.r#use.is_empty() || key.r#use == "sig");
        Ok(Keys(known.filter_map(Key::of).collect()))
    }

    /// Whether any key that fits has signed. None: none fits.
    pub fn verify(&self, algorithm: &str, id: Option<&str>, message: &[u8], signature: &[u8]) -> Option<bool> {
        let fits = |key: &&Key| {
            let named = id.is_none_or(|id| key.id.is_empty() || *key.id == *id);
            named && (key.algorithm.is_empty() || *key.algorithm == *algorithm) && key.takes(algorithm)
        };
        let mut fitting = self.0.iter().filter(fits).peekable();
        fitting.peek()?;
        Some(fitting.any(|key| key.has_signed(algorithm, message, signature)))
    }
}

impl Key {
    fn of(sent: &SentKey) -> Option<Key> {
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        let public = match (&*sent.kty, &*sent.crv) {
            ("RSA", _) => Public::Rsa { n: bytes(&sent.n)?.into(), e: bytes(&sent.e)?.into() },
            ("OKP", "Ed25519") => Public::Ed25519(bytes(&sent.x)?.into()),
            ("EC", curve) => {
                let algorithm = match curve {
                    "P-256" => "ES256",
                    "P-384" => "ES384",
                    "P-521" => "ES512",
                    _ => return None,
                };
                Public::Point(algorithm, [&[4], &*bytes(&sent.x)?, &*bytes(&sent.y)?].concat().into())
            }
            _ => return None,
        };
        Some(Key { id: sent.kid.as_str().into(), algorithm: sent.alg.as_str().into(), public })
    }

    fn takes(&self, algorithm: &str) -> bool {
        match &self.public {
            Public::Rsa { .. } => rsa(algorithm).is_some(),
            Public::Point(own, _) => *own == algorithm,
            Public::Ed25519(_) => algorithm == "EdDSA",
        }
    }

    fn has_signed(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        let unparsed = |of: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(of, key).verify(message, signature).is_ok()
        };
        match &self.public {
            Public::Rsa { n, e } => rsa(algorithm).is_some_and(|parameters| {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }),
            Public::Point("ES256", key) => unparsed(&ECDSA_P256_SHA256_FIXED, key),
            Public::Point("ES384", key) => unparsed(&ECDSA_P384_SHA384_FIXED, key),
            Public::Point(_, key) => unparsed(&ECDSA_P521_SHA512_FIXED, key),
            Public::Ed25519(key) => unparsed(&ED25519, key),
        }
    }
}

fn rsa(algorithm: &str) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
        "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
        "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}
