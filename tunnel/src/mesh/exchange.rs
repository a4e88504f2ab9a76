//! How the resources of a push are taken in: good ones even where others are rejected.

use crate::config::Resource;

/// A resource that was not taken in. The version of it that was in force before stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    pub name: String,
    pub reason: String,
}

/// Removals come by name only, so a resource under another's name could never be removed.
pub fn check_name(name: &str, own: &str) -> Result<(), String> {
    (name == own).then_some(()).ok_or_else(|| format!("its own name is {own:?}"))
}

/// Takes resources out of a store by their names, and then others in.
pub fn exchange<S>(
    store: &mut S,
    insert: fn(&mut S, &Resource) -> Result<(), String>,
    remove: fn(&mut S, &str),
    resources: impl Iterator<Item = Resource>,
    removed: &[String],
) -> Vec<Rejected> {
    removed.iter().for_each(|name| remove(store, name));
    reject_all(resources, |sent| insert(store, sent))
}

pub fn reject_all(
    resources: impl Iterator<Item = Resource>,
    mut take: impl FnMut(&Resource) -> Result<(), String>,
) -> Vec<Rejected> {
    resources.filter_map(|sent| take(&sent).err().map(|reason| Rejected { name: sent.name, reason })).collect()
}
