//! What of cryptography is used, and with whom.
use rustls::crypto::{aws_lc_rs, CryptoProvider};
use std::sync::{Arc, LazyLock};
use std::thread;

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

/// Measures the jitter of the CPU that makes the first random number, in the background: tens of milliseconds in each process,
/// which a key for a pod that is waited for would take longer.
pub fn seed() {
    // Without a thread whoever asks first waits.
    drop(thread::Builder::new().name("warren-seed".into()).spawn(|| drop(MESH.secure_random.fill(&mut [0]))));
}
