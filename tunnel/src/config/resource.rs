//! A resource of any type, not decoded yet.
use prost::bytes::Bytes;

/// A resource as it is sent: its serialised message of a type.
#[derive(Clone, Debug, Default)]
pub struct Resource {
    pub name: String,
    pub version: String,
    pub type_url: String,
    pub body: Bytes,
}

impl Resource {
    /// Its message, which is to be of this type.
    pub fn of(&self, type_url: &str) -> Result<&Bytes, String> {
        (self.type_url == type_url).then_some(&self.body).ok_or_else(|| format!("is a '{}'", self.type_url))
    }
}
