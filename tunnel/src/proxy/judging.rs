//! Requests before policies, of a pod or of a gateway's listener: their tokens are verified, and then they are judged.
use super::consulting::{self, Consulting};
use super::Proxy;
use crate::base::Failure;
use crate::http::{Denied, Flags, Request};
use crate::mesh::Mesh;
use crate::node::Pod;
use crate::policy::{Authenticated, Carrier, Guard, Token, UNKNOWN_KEY};
use ::http::header::{HeaderMap, HeaderValue, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, WWW_AUTHENTICATE};
use ::http::{Method, StatusCode};
use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The guard that was asked for last, as a version of the mesh has it.
#[derive(Default)]
pub struct KnownGuard(RefCell<Option<Known>>);

struct Known {
    mesh: Arc<Mesh>,
    further: Box<[Arc<str>]>,
    guard: Arc<Guard>,
}

impl KnownGuard {
    /// What holds for a pod now; `further`: beside what holds for all of it. None: it is gone.
    pub fn of(&self, proxy: &Proxy, pod: &Pod, further: &[Arc<str>]) -> Option<Arc<Guard>> {
        let mesh = proxy.shared.mesh.load();
        let mut known = self.0.borrow_mut();
        match &*known {
            Some(known) if Arc::ptr_eq(&known.mesh, &mesh) && *known.further == *further => Some(known.guard.clone()),
            _ => {
                let guard = mesh.guard_at(&pod.key, further)?.clone();
                *known = Some(Known { mesh: mesh.clone(), further: further.into(), guard: guard.clone() });
                Some(guard)
            }
        }
    }
}

/// Lets a request through without what is not to go on, and gives the fields that its answer gets; or says why it does not.
pub async fn admit(by: &Consulting<'_>, request: &mut Request) -> Result<HeaderMap, Denied> {
    let consults = by.guard.consults();
    // Apart, as most requests need no room for it.
    let mut added = if consults { Box::pin(by.authorize(request)).await? } else { HeaderMap::new() };
    let token = authenticate(by, request).map_err(|why| unauthorized(request, why))?;
    judge(by, request, token.as_ref()).map_err(forbidden)?;
    if consults {
        Box::pin(by.limit(request, token.as_ref(), &mut added)).await?;
    }
    Ok(added)
}

/// Verifies its tokens; takes away what is not to go on. A preflight has none (CORS). Errors: why one is not valid.
fn authenticate(by: &Consulting<'_>, request: &mut Request) -> Result<Option<Token>, &'static str> {
    let Consulting { guard, proxy, .. } = *by;
    let is_preflight = request.method == Method::OPTIONS
        && request.headers.contains_key(ORIGIN)
        && request.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    if !guard.asks_for_tokens() || is_preflight {
        return Ok(None);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let Request { headers, path, .. } = request;
    let carrier = Carrier { headers, query: path.query() };
    let found = guard.authenticate(carrier, now);
    if matches!(found, Err(UNKNOWN_KEY)) {
        proxy.shared.unknown_keys.met(guard.verifying().map(|policy| &policy.name), Instant::now());
    }
    let Authenticated { token, query } = found?;
    if let Some(query) = query {
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let stripped = format!("{}{query}", request.path.path());
        request.path = stripped.try_into().map_err(|_| "Jwt verification fails")?;
    }
    Ok(token)
}

/// Errors: why it is refused.
fn judge(by: &Consulting<'_>, request: &Request, token: Option<&Token>) -> Result<(), String> {
    let Consulting { guard, attempt, remote, .. } = *by;
    let judgement = match guard.asks_for_requests(attempt.destination.port()) {
        true => guard.judge_request(attempt, consulting::seen(request, remote, token)),
        false => guard.judge(attempt),
    };
    by.proxy.thread.telemetry.judged(&judgement);
    judgement.outcome().map_err(|Failure { refusal, detail }| refusal.explain(&detail))
}

/// Of a pod, or of a gateway's listener, that is there no more.
pub fn gone() -> Denied {
    forbidden("what it came to is gone".to_owned())
}

fn forbidden(reason: String) -> Denied {
    denied(StatusCode::FORBIDDEN, "RBAC: access denied", reason)
}

/// As Envoy asks for another token (RFC 6750 section 3).
fn unauthorized(request: &Request, why: &'static str) -> Denied {
    let Request { scheme, authority, path, .. } = request;
    let realm = format!("Bearer realm=\"{scheme}://{authority}{}\", error=\"invalid_token\"", path.path());
    let mut denied = denied(StatusCode::UNAUTHORIZED, why, why.to_owned());
    denied.headers.extend(HeaderValue::try_from(realm).ok().map(|challenge| (WWW_AUTHENTICATE, challenge)));
    denied
}

fn denied(status: StatusCode, body: &'static str, reason: String) -> Denied {
    Denied { status, body: body.into(), headers: HeaderMap::new(), flags: Flags::default(), reason }
}
