//! Shares of the traffic.

use std::sync::Arc;

use http::StatusCode;

use super::destination::Destination;
use super::proto;

/// One or several targets by weight.
#[derive(Debug)]
pub struct Split<T> {
    shares: Box<[Share<T>]>,
    sum: u64,
}

#[derive(Debug)]
pub struct Share<T> {
    pub weight: u32,
    pub what: T,
}

/// Where a request or connection goes.
#[derive(Clone, Debug)]
pub enum Target {
    Destination(Arc<Destination>),
    Unroutable(Arc<Unroutable>),
}

/// There is no such destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unroutable {
    pub status: StatusCode,
    /// Envoy's response flag.
    pub flag: Box<str>,
    pub reason: Box<str>,
}

impl<T> Split<T> {
    pub fn new(shares: Vec<Share<T>>) -> Result<Split<T>, String> {
        let sum = shares.iter().map(|share| u64::from(share.weight)).sum();
        match (&*shares, sum) {
            ([], _) => Err("no destinations".to_owned()),
            ([_, _, ..], 0) => Err("all weights are 0".to_owned()),
            _ => Ok(Split { shares: shares.into(), sum }),
        }
    }

    /// One gets everything whatever its weight. `draw` gives a number below its argument.
    pub fn choose(&self, draw: impl FnOnce(u64) -> u64) -> usize {
        if self.shares.len() == 1 {
            return 0;
        }
        let mut point = draw(self.sum);
        let behind = |share: &Share<T>| {
            let here = point < u64::from(share.weight);
            point = point.saturating_sub(u64::from(share.weight));
            here
        };
        self.shares.iter().position(behind).unwrap_or_default()
    }

    pub fn get(&self, place: usize) -> &T {
        &self.shares[place].what
    }

    pub fn shares(&self) -> &[Share<T>] {
        &self.shares
    }

    /// Of a million, of all that is split here.
    pub fn parts(&self, share: &Share<T>) -> u64 {
        match self.shares.len() {
            1 => u64::from(super::MILLION),
            _ => u64::from(share.weight) * u64::from(super::MILLION) / self.sum,
        }
    }
}

impl Target {
    pub fn decode(sent: Option<&proto::Target>, known: &[Arc<Destination>]) -> Result<Target, String> {
        Ok(match sent.ok_or("no destination")? {
            proto::Target::Destination(place) => Target::Destination(find(*place, known)?),
            proto::Target::Unroutable(sent) => Target::Unroutable(Arc::new(Unroutable {
                status: super::rule::status(sent.status)?,
                flag: sent.flag.as_str().into(),
                reason: sent.reason.as_str().into(),
            })),
        })
    }
}

pub fn find(place: u32, known: &[Arc<Destination>]) -> Result<Arc<Destination>, String> {
    known.get(place as usize).cloned().ok_or_else(|| format!("there is no destinations[{place}]"))
}
