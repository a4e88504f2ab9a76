//! What may leave the mesh: a namespace's own word, else the mesh's (`warren.mesh.Traffic`). A workload's comes before both.

use std::sync::Arc;

use prost::Message;

use super::check_name;
use crate::config::{proto, Resource, Version};

/// Istio's `outboundTrafficPolicy`: what becomes of a connection to an address of which the mesh knows nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutboundTraffic {
    /// It is made as it is.
    #[default]
    AllowAny,
    /// It is refused.
    RegistryOnly,
}

impl OutboundTraffic {
    /// As users write it.
    pub fn name(self) -> &'static str {
        match self {
            OutboundTraffic::AllowAny => "ALLOW_ANY",
            OutboundTraffic::RegistryOnly => "REGISTRY_ONLY",
        }
    }
}

/// By namespace; the mesh's has an empty one. Cheap to clone.
#[derive(Clone, Default)]
pub struct EgressPolicies(imbl::OrdMap<Arc<str>, Known>);

#[derive(Clone)]
struct Known {
    outbound: OutboundTraffic,
    version: Version,
}

impl EgressPolicies {
    /// What holds for a namespace.
    pub fn outbound(&self, namespace: &str) -> OutboundTraffic {
        let known = self.0.get(namespace).or_else(|| self.0.get(""));
        known.map(|known| known.outbound).unwrap_or_default()
    }

    /// Tells each namespace that has a word of its own, what it is, and its version.
    pub fn each(&self, mut tell: impl FnMut(&str, OutboundTraffic, &Version)) {
        self.0.iter().for_each(|(namespace, Known { outbound, version })| tell(namespace, *outbound, version));
    }

    /// Takes in a resource. Of one that is not understood the last good version stays; where there is none, it must have
    /// been meant to restrict.
    pub fn insert(&mut self, sent: &Resource) -> Result<(), String> {
        let namespace = sent.name.as_str().into();
        match decode(sent) {
            Ok(outbound) => {
                let version = sent.version.as_str().into();
                self.0.insert(namespace, Known { outbound, version });
                Ok(())
            }
            Err(reason) => {
                let restricted = Known { outbound: OutboundTraffic::RegistryOnly, version: Version::from("") };
                self.0.entry(namespace).or_insert(restricted);
                Err(reason)
            }
        }
    }

    pub fn remove(&mut self, namespace: &str) {
        self.0.remove(namespace);
    }
}

fn decode(sent: &Resource) -> Result<OutboundTraffic, String> {
    let message = proto::Traffic::decode(sent.of(proto::TRAFFIC)?.clone()).map_err(|error| error.to_string())?;
    check_name(&sent.name, &message.namespace)?;
    match proto::OutboundTrafficPolicy::try_from(message.outbound_traffic_policy) {
        Ok(proto::OutboundTrafficPolicy::AllowAny) => Ok(OutboundTraffic::AllowAny),
        Ok(proto::OutboundTrafficPolicy::RegistryOnly) => Ok(OutboundTraffic::RegistryOnly),
        _ => Err(format!("outbound_traffic_policy {} is not known", message.outbound_traffic_policy)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::mesh::Mesh;
    use proto::OutboundTrafficPolicy::{AllowAny, RegistryOnly, Unspecified};

    fn outbound(mesh: &Mesh) -> [&'static str; 2] {
        ["shop", "default"].map(|namespace| mesh.egress.outbound(namespace).name())
    }

    fn apply<const N: usize>(mesh: &Mesh, resources: [Resource; N], removed: &[&str]) -> (Mesh, Vec<String>) {
        let removed: Vec<String> = removed.iter().map(|name| name.to_string()).collect();
        let (mesh, rejected) = mesh.apply(proto::TRAFFIC, resources, &removed);
        (mesh, rejected.into_iter().map(|rejected| rejected.reason).collect())
    }

    #[test]
    fn a_namespaces_own_word_comes_before_the_meshs() {
        let mesh = Mesh::new("");
        assert_eq!(outbound(&mesh), ["ALLOW_ANY", "ALLOW_ANY"]);
        let mesh = apply(&mesh, [traffic("", RegistryOnly)], &[]).0;
        assert_eq!(outbound(&mesh), ["REGISTRY_ONLY", "REGISTRY_ONLY"]);
        let mesh = apply(&mesh, [traffic("shop", AllowAny)], &[]).0;
        assert_eq!(outbound(&mesh), ["ALLOW_ANY", "REGISTRY_ONLY"]);
        let mesh = apply(&mesh, [traffic("shop", RegistryOnly)], &[""]).0;
        assert_eq!(outbound(&mesh), ["REGISTRY_ONLY", "ALLOW_ANY"]);
        let mesh = apply(&mesh, [], &["shop", "unknown"]).0;
        assert_eq!(outbound(&mesh), ["ALLOW_ANY", "ALLOW_ANY"]);
    }

    #[test]
    fn what_is_not_understood_opens_nothing() {
        let bad = [traffic("shop", Unspecified), Resource { body: vec![0xff].into(), ..traffic("default", AllowAny) }];
        let (mesh, rejected) = apply(&Mesh::new(""), bad.clone(), &[]);
        assert_eq!(rejected[0], "outbound_traffic_policy 0 is not known");
        assert_eq!((rejected.len(), outbound(&mesh)), (2, ["REGISTRY_ONLY", "REGISTRY_ONLY"]));
        let mesh = apply(&mesh, ["shop", "default"].map(|namespace| traffic(namespace, AllowAny)), &[]).0;
        assert_eq!(outbound(&apply(&mesh, bad, &[]).0), ["ALLOW_ANY", "ALLOW_ANY"], "the last good version stays");
        let other = Resource { name: "other".into(), ..traffic("shop", AllowAny) };
        assert_eq!(apply(&mesh, [other], &[]).1, ["its own name is \"shop\""]);
    }

    #[test]
    fn what_is_held_is_told_with_its_version() {
        let (mesh, _) = apply(&Mesh::new(""), [traffic("", RegistryOnly), traffic("shop", Unspecified)], &[]);
        let mut held = vec![];
        mesh.held(proto::TRAFFIC, |name, version| held.push((name.to_owned(), version.to_string())));
        assert_eq!(held, [("".to_owned(), "1".to_owned()), ("shop".to_owned(), "".to_owned())]);
    }
}
