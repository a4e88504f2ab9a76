//! What expressions may ask for of a request, and of a connection.

use super::log::Record;
use super::party::{Parties, Party};
use super::record::Facts;
use super::request::Request;
use super::Direction;
use crate::base::Identity;
use crate::mesh::App;
use crate::observability::{Attribute, Attributes, Value};
use std::net::SocketAddr;
use std::sync::Arc;

impl Attributes for Request<'_> {
    fn attribute(&self, attribute: Attribute) -> Value<'_> {
        let (path, query) = self.url();
        match attribute {
            Attribute::RequestPath => Value::text(&*self.path),
            Attribute::RequestUrlPath => Value::text(path),
            Attribute::RequestQuery => Value::text(query),
            Attribute::RequestHost => Value::text(&*self.authority),
            Attribute::RequestMethod => Value::text(self.method.as_str()),
            Attribute::RequestProtocol => Value::text(if self.http2 { "HTTP/2" } else { "HTTP/1.1" }),
            Attribute::RequestId => self.request_header("x-request-id"),
            Attribute::RequestUserAgent => self.request_header("user-agent"),
            Attribute::RequestReferer => self.request_header("referer"),
            Attribute::RequestSize | Attribute::RequestTotalSize => Value::Number(self.sent.bytes as f64),
            Attribute::ResponseSize | Attribute::ResponseTotalSize => Value::Number(self.received.bytes as f64),
            Attribute::ResponseGrpcStatus => {
                self.grpc_status.map_or(Value::Missing, |status| Value::Number(status.into()))
            }
            Attribute::RequestDuration => Value::Number(self.duration.as_secs_f64()),
            Attribute::ResponseCode => Value::Number(self.status.map_or(0, |status| status.as_u16()).into()),
            Attribute::ResponseFlags => Value::Text(self.flags.to_string().into()),
            Attribute::RouteName | Attribute::XdsRouteName => Value::text(&*self.route),
            Attribute::UpstreamAddress => self.endpoint.map_or(Value::Missing, address),
            Attribute::UpstreamPort => self.endpoint.map_or(Value::Missing, port),
            Attribute::SourceAddress => address(self.client),
            Attribute::SourcePort => port(self.client),
            Attribute::DestinationAddress => self.endpoint.map_or(Value::Missing, address),
            Attribute::DestinationPort => self.endpoint.map_or(Value::Missing, port),
            _ => self.parties.attribute(attribute, self.direction),
        }
    }

    fn request_header(&self, name: &str) -> Value<'_> {
        let found = self.observed.headers.iter().find(|(known, _)| **known == *name);
        found.map_or(Value::Missing, |(_, value)| Value::text(&**value))
    }
}

impl Attributes for Record {
    fn attribute(&self, attribute: Attribute) -> Value<'_> {
        let facts = &self.facts;
        match attribute {
            Attribute::SourceAddress => address(facts.source),
            Attribute::SourcePort => port(facts.source),
            Attribute::DestinationAddress | Attribute::UpstreamAddress => address(facts.destination),
            Attribute::DestinationPort | Attribute::UpstreamPort => port(facts.destination),
            Attribute::ResponseFlags => Value::text(self.end.reason.map_or("-", |reason| reason.flag().name())),
            // As Envoy's of TCP.
            Attribute::ResponseCode => Value::Number(0.0),
            _ => facts.parties().map_or(Value::Missing, |parties| parties.attribute(attribute, facts.direction)),
        }
    }

    fn request_header(&self, _: &str) -> Value<'_> {
        Value::Missing
    }
}

/// A connection that is open, with its ends.
pub struct Described<'a>(pub &'a Facts, pub &'a Parties);

impl Attributes for Described<'_> {
    fn attribute(&self, attribute: Attribute) -> Value<'_> {
        let Described(facts, parties) = self;
        match attribute {
            Attribute::SourceAddress => address(facts.source),
            Attribute::SourcePort => port(facts.source),
            Attribute::DestinationAddress | Attribute::UpstreamAddress => address(facts.destination),
            Attribute::DestinationPort | Attribute::UpstreamPort => port(facts.destination),
            _ => parties.attribute(attribute, facts.direction),
        }
    }

    fn request_header(&self, _: &str) -> Value<'_> {
        Value::Missing
    }
}

impl Parties {
    fn attribute(&self, attribute: Attribute, direction: Direction) -> Value<'_> {
        use Attribute as A;
        let (source, destination) = (&self.source, &self.destination);
        match attribute {
            A::ConnectionMtls => Value::Truth(self.source_identity.is_some() && self.destination_identity.is_some()),
            A::ConnectionPeer => principal(match direction {
                Direction::Inbound => &self.source_identity,
                Direction::Outbound => &self.destination_identity,
            }),
            A::UpstreamPrincipal => principal(&self.destination_identity),
            A::DownstreamPrincipal => principal(&self.source_identity),
            A::UpstreamServiceAccount => account(&self.destination_identity),
            A::DownstreamServiceAccount => account(&self.source_identity),
            A::UpstreamName => Value::text(destination.name().unwrap_or_default()),
            A::DownstreamName => Value::text(source.name().unwrap_or_default()),
            A::UpstreamNamespace => of(destination, |app| &app.namespace),
            A::DownstreamNamespace => of(source, |app| &app.namespace),
            A::UpstreamWorkload => of(destination, |app| &app.workload),
            A::DownstreamWorkload => of(source, |app| &app.workload),
            A::UpstreamCluster => of(destination, |app| &app.cluster),
            A::DownstreamCluster => of(source, |app| &app.cluster),
            A::UpstreamApp => of(destination, |app| &app.canonical_name),
            A::DownstreamApp => of(source, |app| &app.canonical_name),
            A::UpstreamVersion => of(destination, |app| &app.canonical_revision),
            A::DownstreamVersion => of(source, |app| &app.canonical_revision),
            A::XdsClusterName => Value::text(self.service.as_ref().map_or("", |service| service.key.hostname())),
            _ => Value::Missing,
        }
    }
}

fn of(party: &Party, piece: impl Fn(&App) -> &Arc<str>) -> Value<'_> {
    Value::text(party.app().map_or("", |app| piece(app)))
}

fn principal(identity: &Option<Arc<Identity>>) -> Value<'static> {
    Value::text(identity.as_ref().map(|identity| identity.to_string()).unwrap_or_default())
}

fn account(identity: &Option<Arc<Identity>>) -> Value<'_> {
    Value::text(identity.as_ref().map_or("", |identity| &*identity.service_account))
}

fn address(address: SocketAddr) -> Value<'static> {
    Value::Text(address.to_string().into())
}

fn port(address: SocketAddr) -> Value<'static> {
    Value::Number(address.port().into())
}
