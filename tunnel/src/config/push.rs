//! The messages of the delta protocol, as far as the core reads and writes them: a push may be of tens of megabytes, and
//! is taken in piece by piece from where it arrived.
use super::{Resource, Version};
use prost::bytes::Bytes;
use prost::Message;
use std::collections::{HashMap, HashSet};

/// A `DeltaDiscoveryResponse` whose resources are not decoded yet.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Push {
    #[prost(string, tag = "1")]
    pub system_version_info: String,
    /// Each an [`Envelope`].
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
struct Envelope {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(message, optional, tag = "2")]
    resource: Option<Any>,
    #[prost(string, tag = "3")]
    name: String,
}

/// A `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

impl Push {
    /// Adds to what it removes all that is held of its type and it does not bring. `each` tells what is held.
    pub fn remove_others(&mut self, each: impl FnOnce(&str, &mut dyn FnMut(&str, &Version))) {
        let sent: HashSet<String> = self.sent().map(|sent| sent.name).collect();
        each(&self.type_url, &mut |name, _| {
            if !sent.contains(name) {
                self.removed_resources.push(name.to_owned());
            }
        });
    }

    /// Its resources, one by one. What is no resource has no name under which it could be refused: it comes without one.
    pub fn sent(&self) -> impl Iterator<Item = Resource> + '_ {
        self.resources.iter().map(|bytes| match Envelope::decode(bytes.clone()) {
            Ok(Envelope { version, resource, name }) => {
                let Any { type_url, value } = resource.unwrap_or_default();
                Resource { name, version, type_url, body: value }
            }
            Err(_) => Resource::default(),
        })
    }
}

/// The part of a `DeltaDiscoveryRequest` that tells what is held.
#[derive(Clone, PartialEq, prost::Message)]
struct Held {
    #[prost(map = "string, string", tag = "5")]
    initial_resource_versions: HashMap<String, String>,
}

/// What is held of a type, name by name, to be added to the first request of a stream: a serialised `initial_resource_versions`.
pub fn held(each: impl FnOnce(&mut dyn FnMut(&str, &Version))) -> Vec<u8> {
    // One entry at a time: the pieces of a serialised message may follow each other.
    let mut bytes = Vec::new();
    each(&mut |name, version| {
        let initial_resource_versions = HashMap::from([(name.to_owned(), version.to_string())]);
        // The buffer grows as it must.
        let _ = Held { initial_resource_versions }.encode(&mut bytes);
    });
    bytes
}
