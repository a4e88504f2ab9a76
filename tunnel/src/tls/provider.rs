//! What of cryptography is used, and with whom.
use rustls::crypto::{aws_lc_rs, CryptoProvider};
use std::sync::{Arc, LazyLock};

/// TLS 1.3 with AES-GCM, as the peer demands; the hybrid exchange first, for traffic recorded today.
pub(super) static MESH: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    use aws_lc_rs::{cipher_suite, kx_group};
    Arc::new(CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS13_AES_256_GCM_SHA384],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1],
        ..aws_lc_rs::default_provider()
    })
});

/// Whatever rustls thinks safe: outside of the mesh peers are of all kinds.
pub(super) static ANYBODY: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
