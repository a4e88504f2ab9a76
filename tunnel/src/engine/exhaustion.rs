//! Connections for which no descriptor is left: refused at once, with a reason.
use super::worker::Role;
use crate::base::{canonical, OriginalDst, Refusal};
use crate::relay::Thread;
use crate::sys::acceptor::Acceptor;
use crate::sys::sockets::{original_destination, reset_on_close};
use crate::telemetry::Direction;

/// Resets the connection that waits longest. Whether that was possible.
pub fn turn_away(thread: &Thread, listener: &Acceptor, role: Role) -> bool {
    thread.spare.lend(|| {
        let Ok((sock, client)) = listener.accept_now() else { return false };
        reset_on_close(&sock);
        let to = original_destination(&sock).or_else(|| sock.local_addr().ok()).unwrap_or(client);
        let (client, to, refusal) = (canonical(client), OriginalDst::new(to).address(), Refusal::OutOfDescriptors);
        match role {
            Role::Outbound | Role::Gateway(_) => {
                thread.telemetry.accept(Direction::Outbound, client, to).fail(refusal, "")
            }
            Role::Plain => thread.telemetry.accept(Direction::Inbound, client, to).fail(refusal, ""),
            Role::Tunnel => thread.telemetry.refused(client, to, None, refusal, ""),
        }
        true
    })
}
