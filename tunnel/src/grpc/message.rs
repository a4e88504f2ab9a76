//! Messages in a stream of bytes: a flag for compression, four bytes of length, the message.
use super::Status;
use bytes::{BufMut, Bytes, BytesMut};

/// Flag and length.
pub const PREFIX: usize = 5;
/// Bytes of a message: a whole mesh in one push.
const LARGEST: usize = 200 << 20;

/// A message of a length, as it is sent.
pub fn framed(length: usize, put: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut bytes = BytesMut::with_capacity(PREFIX + length);
    bytes.put_u8(0); // not compressed
    bytes.put_u32(length as u32);
    put(&mut bytes);
    bytes.freeze()
}

/// What was read and is no message yet.
#[derive(Default)]
pub struct Inbox(BytesMut);

impl Inbox {
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next whole message.
    pub fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(&[flag, ref length @ ..]) = self.0.first_chunk::<PREFIX>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if flag != 0 {
            return Err(Status::internal("a message is compressed, which was not asked for"));
        }
        if length > LARGEST {
            return Err(Status::too_much(format!("a message has {length} bytes, more than {LARGEST}")));
        }
        if self.0.len() < PREFIX + length {
            return Ok(None);
        }
        let message = self.0.split_to(PREFIX + length).freeze().slice(PREFIX..);
        if self.0.len() <= message.len() {
            self.0 = BytesMut::from(&self.0[..]); // what is left keeps no large message's memory
        }
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_as_they_were_whatever_the_pieces_are() {
        let sent =
            ["one", "", "three"].map(|text| framed(text.len(), |buffer| buffer.put_slice(text.as_bytes()))).concat();
        for size in 1..=sent.len() {
            let (mut inbox, mut read) = (Inbox::default(), Vec::new());
            for piece in sent.chunks(size) {
                inbox.push(piece);
                while let Some(message) = inbox.next().unwrap() {
                    read.push(message);
                }
            }
            assert_eq!(read, ["one", "", "three"]);
            assert!(inbox.is_empty());
        }
    }

    #[test]
    fn what_is_no_message_is_refused_by_its_prefix() {
        for (prefix, reason) in [([1, 0, 0, 0, 1], "compressed"), ([0, 255, 0, 0, 0], "more than 209715200")] {
            let mut inbox = Inbox::default();
            inbox.push(&prefix);
            assert!(inbox.next().unwrap_err().text.contains(reason));
        }
    }
}
