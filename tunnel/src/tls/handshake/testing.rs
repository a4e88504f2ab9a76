//! Two ends of a connection, with nothing but bytes between them.
use super::{Connection, Failure, Handshake};
use crate::base::Identity;
use crate::sys::buffer::Out;
use crate::tls::credentials::{Credentials, Proof};
use crate::tls::record_layer::Records;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::ClientConfig;
use std::sync::Arc;

impl Handshake {
    /// As `client`, with messages in records that are as small as can be.
    pub fn client_in_pieces(credentials: &Credentials, expected: &Arc<[Identity]>) -> Handshake {
        let mut config = ClientConfig::clone(&*credentials.client(expected).unwrap());
        config.max_fragment_size = Some(32);
        let name = ServerName::try_from("unused").unwrap();
        let connection = Connection::Client(UnbufferedClientConnection::new(Arc::new(config), name).unwrap());
        Handshake { connection, ..Handshake::client(credentials, expected).unwrap() }
    }
}

/// One end: before the handshake is over, and behind it.
pub struct End {
    handshake: Option<Handshake>,
    input: Vec<u8>,
    pub out: Out,
    pub peer: Option<Identity>,
    pub proof: Option<Proof>,
    pub records: Option<Records>,
    pub failure: Option<Failure>,
}

impl End {
    pub fn new(handshake: Handshake) -> End {
        End {
            handshake: Some(handshake),
            input: vec![],
            out: Out::new(&crate::sys::budget::Budget::process()),
            peer: None,
            proof: None,
            records: None,
            failure: None,
        }
    }

    /// What it has to say since the last call.
    pub fn said(&mut self) -> Vec<u8> {
        let said = self.out.waiting().to_vec();
        self.out.sent(said.len());
        said
    }

    /// Takes bytes; what they open to is in the result.
    pub fn hear(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.input.extend_from_slice(bytes);
        self.read().unwrap_or_else(|failure| {
            self.failure.get_or_insert(failure);
            vec![]
        })
    }

    fn read(&mut self) -> Result<Vec<u8>, Failure> {
        if let Some(handshake) = &mut self.handshake {
            let progress = handshake.advance(&mut self.input, &mut self.out)?;
            self.input.drain(..progress.used);
            if !progress.complete {
                return Ok(vec![]);
            }
            let (peer, proof) = handshake.peer()?;
            (self.peer, self.proof) = (Some(peer), Some(proof));
            self.records = self.handshake.take().map(Handshake::into_records).transpose()?;
        }
        let Some(records) = &mut self.records else { return Ok(vec![]) };
        let mut parts = vec![];
        let opened = records.open(&mut self.input, &mut parts, &mut self.out);
        let plain = parts.iter().flat_map(|part| self.input[part.clone()].to_vec()).collect();
        self.input.drain(..opened?);
        Ok(plain)
    }
}

/// Lets two ends talk until neither has more to say; `chunk` bytes arrive at a time.
pub fn talk(client: &mut End, server: &mut End, chunk: usize) {
    client.hear(&[]);
    loop {
        let (up, down) = (client.said(), server.said());
        if up.is_empty() && down.is_empty() {
            return;
        }
        up.chunks(chunk).for_each(|bytes| drop(server.hear(bytes)));
        down.chunks(chunk).for_each(|bytes| drop(client.hear(bytes)));
    }
}
