//! What a tunnel says to its peer beside bytes: frames that wait to be sealed together.
use super::{Session, Tls};
use crate::h2::frame::{self, Code};
use crate::h2::headers::Block;

impl Session {
    /// Has the peer send so much more.
    pub fn give_back(&mut self, id: u32, due: Option<u32>) {
        if let Some(due) = due {
            frame::put_window(&mut self.control, id, due);
        }
    }

    pub fn acknowledge_settings(&mut self) {
        frame::put_settings_ack(&mut self.control);
    }

    pub fn pong(&mut self, payload: [u8; 8]) {
        frame::put_ping(&mut self.control, payload, true);
    }

    /// Asks for a stream; gives its id.
    pub fn ask(&mut self, request: &Block) -> u32 {
        let id = self.next_id;
        self.next_id += 2;
        frame::put_headers(&mut self.control, id, &request.0, false);
        id
    }

    /// Sends a few bytes of a stream together with what else is to be said. There must be `room`.
    pub fn put_data(&mut self, id: u32, bytes: &[u8]) {
        frame::put_data(&mut self.control, id, bytes);
        self.sending.sent(bytes.len());
    }

    pub fn put_headers(&mut self, id: u32, block: &Block, end: bool) {
        frame::put_headers(&mut self.control, id, &block.0, end);
    }

    pub fn put_end(&mut self, id: u32) {
        frame::put_end(&mut self.control, id);
    }

    pub fn put_reset(&mut self, id: u32, code: Code) {
        frame::put_reset(&mut self.control, id, code);
    }

    pub fn ping(&mut self) {
        frame::put_ping(&mut self.control, *b"warren??", false);
    }

    /// Says that no more streams are taken.
    pub fn refuse_more(&mut self) {
        self.refusing = true;
        if self.server {
            frame::put_goaway(&mut self.control, self.last_id, Code::NO_ERROR);
        }
    }

    /// The last words of a tunnel that ends in order.
    pub fn say_goodbye(&mut self) {
        self.seal_control();
        if let (Tls::Up(records), false) = (&mut self.tls, std::mem::replace(&mut self.closing, true)) {
            let _ = records.close(&mut self.out); // it ends in any case
        }
    }

    /// The last words of one that the peer has to know a reason for.
    pub fn alert(&mut self, alert: u8) {
        if let Tls::Up(records) = &mut self.tls {
            let _ = records.fail(alert, &mut self.out); // it ends in any case
        }
    }
}
