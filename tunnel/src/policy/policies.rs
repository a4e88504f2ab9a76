//! All policies of the mesh, and what of them is enforced at each workload.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::guard::Guard;
use super::wire::{Policy, Reach, Unreadable};

/// What decides which policies hold for a workload: replicas have one guard.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Guarded {
    pub namespace: Arc<str>,
    /// The policies that select it, by `namespace/name`.
    pub selected_by: Arc<[Arc<str>]>,
    /// The ports on which requests can be seen, in order.
    pub http_ports: Box<[u16]>,
}

impl Guarded {
    /// A gateway at a listener: with further policies, and where requests are seen.
    pub fn at(self, further: &[Arc<str>], http_ports: Box<[u16]>) -> Guarded {
        let selected_by = match further {
            [] => self.selected_by,
            further => self.selected_by.iter().chain(further).cloned().collect::<BTreeSet<_>>().into_iter().collect(),
        };
        Guarded { selected_by, http_ports, ..self }
    }
}

/// Cheap to clone.
#[derive(Clone, Default)]
pub struct Policies {
    /// Whether we have been told of the policies that there are, be it none.
    arrived: bool,
    known: imbl::HashMap<Arc<str>, Known>,
    /// Names of the policies that hold for all, and of those that hold for a namespace.
    mesh: imbl::OrdSet<Arc<str>>,
    namespaces: imbl::HashMap<Arc<str>, imbl::OrdSet<Arc<str>>>,
    guards: imbl::HashMap<Guarded, Arc<Guard>>,
    /// A policy has changed since the guards were compiled.
    changed: bool,
}

/// A policy and where it holds; None where no version of it was understood.
#[derive(Clone)]
struct Known {
    reach: Reach,
    policy: Option<Arc<Policy>>,
}

impl Policies {
    /// From now on there are no other policies than those that are known; until then nothing is decided.
    pub fn mark_synced(&mut self) {
        self.changed |= !self.arrived;
        self.arrived = true;
    }

    /// Takes in a policy. Of one that is not understood the last good version stays; one that has none is undecided for all
    /// whom it may concern. To be settled afterwards, as after `remove`.
    pub fn insert(&mut self, name: &str, decoded: Result<Policy, Unreadable>) -> Result<(), String> {
        match decoded {
            Ok(policy) => {
                let same = |known: &Known| known.policy.as_deref() == Some(&policy);
                if !self.known.get(name).is_some_and(same) {
                    self.put(policy.name.clone(), policy.reach.clone(), Some(Arc::new(policy)));
                }
                Ok(())
            }
            Err(Unreadable { reason, reach }) => {
                if let (Some(reach), None) = (reach, self.get(name)) {
                    self.put(name.into(), reach, None);
                }
                Err(reason)
            }
        }
    }

    pub fn remove(&mut self, name: &str) {
        let Some((name, Known { reach, .. })) = self.known.remove_with_key(name) else { return };
        self.changed = true;
        match reach {
            Reach::Mesh => drop(self.mesh.remove(&name)),
            Reach::Namespace(namespace) => {
                if let Some(names) = self.namespaces.get_mut(&namespace) {
                    names.remove(&name);
                    if names.is_empty() {
                        self.namespaces.remove(&namespace);
                    }
                }
            }
            Reach::Named => {}
        }
    }

    /// Compiles what is enforced at these workloads. A guard that a change does not touch stays the same one.
    pub fn recompile(&mut self, workloads: impl Iterator<Item = Guarded>) {
        let mut guards = imbl::HashMap::new();
        for guarded in workloads {
            if !guards.contains_key(&guarded) {
                let guard = match self.guards.get(&guarded) {
                    Some(guard) if !self.changed => guard.clone(),
                    former => self.compile(&guarded, former),
                };
                guards.insert(guarded, guard);
            }
        }
        self.guards = guards;
        self.changed = false;
    }

    /// What is enforced at a workload among those that were settled.
    pub fn guard(&self, guarded: &Guarded) -> Option<&Arc<Guard>> {
        self.guards.get(guarded)
    }

    /// As `guard`; compiled now for a workload that was not settled, for a question.
    pub fn guard_of(&self, guarded: &Guarded) -> Arc<Guard> {
        self.guards.get(guarded).cloned().unwrap_or_else(|| self.compile(guarded, None))
    }

    /// The policies of which a version is in force.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.known.values().filter_map(|known| known.policy.as_ref())
    }

    /// Whether a version of this policy is in force.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn get(&self, name: &str) -> Option<&Arc<Policy>> {
        self.known.get(name)?.policy.as_ref()
    }

    fn put(&mut self, name: Arc<str>, reach: Reach, policy: Option<Arc<Policy>>) {
        self.remove(&name);
        self.changed = true;
        match &reach {
            Reach::Mesh => drop(self.mesh.insert(name.clone())),
            Reach::Namespace(namespace) => {
                drop(self.namespaces.entry(namespace.clone()).or_default().insert(name.clone()));
            }
            Reach::Named => {}
        }
        self.known.insert(name, Known { reach, policy });
    }

    fn compile(&self, guarded: &Guarded, former: Option<&Arc<Guard>>) -> Arc<Guard> {
        let of_namespace = self.namespaces.get(&guarded.namespace).into_iter().flatten();
        let names: BTreeSet<_> = self.mesh.iter().chain(of_namespace).chain(&*guarded.selected_by).collect();
        let (mut policies, mut missing) = (vec![], vec![]);
        if !self.arrived {
            missing.push("none has arrived yet".into());
        }
        for name in names {
            match self.get(name) {
                Some(policy) => policies.push(policy.clone()),
                None => missing.push(name.clone()),
            }
        }
        match former {
            Some(guard) if guard.is_of(&policies, &missing) => guard.clone(),
            _ => Arc::new(Guard::new(policies, missing, &guarded.http_ports)),
        }
    }
}
