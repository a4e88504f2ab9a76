//! What happens to requests and connections to services (`warren.routes.ServiceRoutes`), compiled.

use std::sync::Arc;

use super::check_name;
use crate::config::{Resource, Version};
use crate::routes::proto::SERVICE_ROUTES;
use crate::routes::ServiceRoutes;

/// By service. Cheap to clone.
#[derive(Clone, Default)]
pub struct Routes(imbl::HashMap<Arc<str>, Known>);

#[derive(Clone)]
struct Known {
    routes: Arc<ServiceRoutes>,
    version: Version,
}

impl Routes {
    /// By `namespace/hostname`; None: its connections are forwarded as they are.
    pub fn get(&self, service: &str) -> Option<&Arc<ServiceRoutes>> {
        self.0.get(service).map(|known| &known.routes)
    }

    pub fn each(&self, mut tell: impl FnMut(&Arc<ServiceRoutes>, &Version)) {
        self.0.values().for_each(|Known { routes, version }| tell(routes, version));
    }

    /// Takes in a resource. Of one that is not understood the last good version stays; where there is none nothing gets
    /// through, for it may have been meant to keep something out.
    pub fn insert(&mut self, sent: &Resource) -> Result<(), String> {
        let name: Arc<str> = sent.name.as_str().into();
        match decode(sent) {
            Ok(routes) => {
                let version = sent.version.as_str().into();
                self.0.insert(name, Known { routes: routes.into(), version });
                Ok(())
            }
            Err(reason) => {
                let refused = || ServiceRoutes::refused(&sent.name, &sent.body, &reason).into();
                self.0.entry(name).or_insert_with(|| Known { routes: refused(), version: Version::from("") });
                Err(reason)
            }
        }
    }

    pub fn remove(&mut self, service: &str) {
        self.0.remove(service);
    }
}

fn decode(sent: &Resource) -> Result<ServiceRoutes, String> {
    let routes = ServiceRoutes::decode(sent.of(SERVICE_ROUTES)?)?;
    check_name(&sent.name, &routes.service)?;
    Ok(routes)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::mesh::Mesh;
    use crate::routes::testing::{rule, scope, service as routes};
    use crate::routes::{proto, Target};

    const NAME: &str = "shop/reviews.shop.svc.cluster.local";

    fn apply(mesh: &Mesh, name: &str, message: &proto::ServiceRoutes) -> (Mesh, Vec<String>) {
        let (mesh, rejected) = mesh.apply(SERVICE_ROUTES, [sent(SERVICE_ROUTES, name, message)], &[]);
        (mesh, rejected.into_iter().map(|rejected| rejected.reason).collect())
    }

    fn named(name: &str) -> proto::ServiceRoutes {
        routes(vec![scope(vec![rule(name, &[])])])
    }

    /// The name of the rule in force on a port.
    fn in_force(mesh: &Mesh, port: u16) -> Option<String> {
        Some(mesh.routes(NAME, port)?.scopes[0].http[0].name.to_string())
    }

    #[test]
    fn routes_hold_for_their_service_until_they_are_removed() {
        let (mesh, rejected) = apply(&Mesh::new(""), NAME, &named("one"));
        assert_eq!((rejected.len(), in_force(&mesh, 9080).as_deref(), in_force(&mesh, 80)), (0, Some("one"), None));
        let mesh = apply(&mesh, NAME, &named("two")).0;
        assert_eq!(in_force(&mesh, 9080).as_deref(), Some("two"));
        let mesh = mesh.apply(SERVICE_ROUTES, [], &[NAME.to_owned()]).0;
        assert_eq!(in_force(&mesh, 9080), None);
    }

    #[test]
    fn the_last_good_version_stays() {
        let mesh = apply(&Mesh::new(""), NAME, &named("one")).0;
        let mut bad = named("two");
        bad.ports[0].scopes[0].http[0].action = None;
        let (mesh, rejected) = apply(&mesh, NAME, &bad);
        assert_eq!(rejected, ["ports[0]: scopes[0]: http[0]: two: no action"]);
        assert_eq!(in_force(&mesh, 9080).as_deref(), Some("one"));
        let other = apply(&mesh, "shop/other", &named("two")).1;
        assert_eq!(other, [format!("its own name is {NAME:?}")]);
    }

    #[test]
    fn what_was_never_understood_lets_nothing_through() {
        let mut bad = named("two");
        bad.ports[0].scopes.clear();
        let (mesh, _) = apply(&Mesh::new(""), NAME, &bad);
        let refused = mesh.routes(NAME, 9080).unwrap();
        assert!(refused.is_http() && mesh.routes(NAME, 80).is_none());
        let crate::routes::Action::Forward(forward) = &refused.scopes[0].http[0].action else { panic!("{refused:?}") };
        let Target::Unroutable(answer) = &forward.split.get(0).target else { panic!("{forward:?}") };
        assert_eq!(
            (answer.status.as_u16(), &*answer.reason),
            (503, "ports[0]: port 9080: no scope is for all clients")
        );
        // Where not even the ports are known, none lets anything through.
        let garbage = Resource { body: vec![0xff].into(), ..sent(SERVICE_ROUTES, NAME, &bad) };
        let mesh = Mesh::new("").apply(SERVICE_ROUTES, [garbage], &[]).0;
        assert!([80, 9080].iter().all(|port| !mesh.routes(NAME, *port).unwrap().is_http()));
        // A good one takes its place.
        assert_eq!(in_force(&apply(&mesh, NAME, &named("good")).0, 9080).as_deref(), Some("good"));
    }

    #[test]
    fn what_is_held_is_told_with_its_version() {
        let mesh = apply(&Mesh::new(""), NAME, &named("one")).0;
        let mut held = vec![];
        mesh.held(SERVICE_ROUTES, |name, version| held.push((name.to_owned(), version.to_string())));
        assert_eq!(held, [(NAME.to_owned(), "1".to_owned())]);
    }
}
