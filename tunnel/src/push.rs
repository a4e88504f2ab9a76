//! The messages of the delta protocol, as far as the core reads and writes them: a push may be of tens of megabytes, and
//! is taken in piece by piece from where it arrived.
use crate::mesh::{Mesh, Sent};
use prost::bytes::Bytes;
use prost::Message;
use std::collections::{HashMap, HashSet};

/// A `DeltaDiscoveryResponse` whose resources are not decoded yet.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Push {
    #[prost(string, tag = "1")]
    pub system_version_info: String,
    /// Each a [`Resource`].
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub resources: Vec<Bytes>,
    #[prost(string, tag = "4")]
    pub type_url: String,
    #[prost(string, tag = "5")]
    pub nonce: String,
    #[prost(string, repeated, tag = "6")]
    pub removed_resources: Vec<String>,
    /// More of the same state follows: until then it is no state to act on.
    #[prost(bool, tag = "1000")]
    pub partial: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Resource {
    #[prost(string, tag = "1")]
    pub version: String,
    #[prost(message, optional, tag = "2")]
    pub resource: Option<Any>,
    #[prost(string, tag = "3")]
    pub name: String,
}

/// A `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Any {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

impl Push {
    /// Adds what a mesh has of its type and it does not bring to what it removes.
    pub fn remove_others(&mut self, mesh: &Mesh) {
        let sent: HashSet<String> = self.sent().map(|sent| sent.name).collect();
        mesh.held(&self.type_url, |name, _| {
            if !sent.contains(name) {
                self.removed_resources.push(name.to_owned());
            }
        });
    }

    /// Its resources, one by one. What is no resource has no name under which it could be refused: it comes without one.
    pub fn sent(&self) -> impl Iterator<Item = Sent> + '_ {
        self.resources.iter().map(|bytes| match Resource::decode(bytes.clone()) {
            Ok(Resource { version, resource, name }) => {
                let Any { type_url, value } = resource.unwrap_or_default();
                Sent { name, version, type_url, body: value }
            }
            Err(_) => Sent::default(),
        })
    }
}

/// The part of a `DeltaDiscoveryRequest` that tells what is held.
#[derive(Clone, PartialEq, prost::Message)]
struct Held {
    #[prost(map = "string, string", tag = "5")]
    initial_resource_versions: HashMap<String, String>,
}

/// What the mesh holds of a type, to be added to the first request of a stream: a serialised `initial_resource_versions`.
pub fn held(mesh: &Mesh, type_url: &str) -> Vec<u8> {
    // One entry at a time: the pieces of a serialised message may follow each other.
    let mut bytes = Vec::new();
    mesh.held(type_url, |name, version| {
        let initial_resource_versions = HashMap::from([(name.to_owned(), version.to_string())]);
        // The buffer grows as it must.
        let _ = Held { initial_resource_versions }.encode(&mut bytes);
    });
    bytes
}
