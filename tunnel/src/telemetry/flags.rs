//! Response flags: what of this hop became of a request.

/// Envoy's response flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(u32);

impl Flags {
    pub const NO_HEALTHY_UPSTREAM: Flags = Flags(1);
    pub const UPSTREAM_CONNECTION_FAILURE: Flags = Flags(1 << 1);
    pub const UPSTREAM_OVERFLOW: Flags = Flags(1 << 2);
    pub const UPSTREAM_TIMEOUT: Flags = Flags(1 << 3);
    pub const UPSTREAM_TERMINATION: Flags = Flags(1 << 4);
    pub const UPSTREAM_RESET: Flags = Flags(1 << 5);
    pub const UPSTREAM_PROTOCOL_ERROR: Flags = Flags(1 << 6);
    pub const RETRY_LIMIT: Flags = Flags(1 << 7);
    pub const NO_ROUTE: Flags = Flags(1 << 8);
    pub const NO_CLUSTER: Flags = Flags(1 << 9);
    pub const DELAY_INJECTED: Flags = Flags(1 << 10);
    pub const FAULT_INJECTED: Flags = Flags(1 << 11);
    pub const DOWNSTREAM_TERMINATION: Flags = Flags(1 << 12);
    pub const DOWNSTREAM_PROTOCOL_ERROR: Flags = Flags(1 << 13);
    pub const RATE_LIMITED: Flags = Flags(1 << 14);
    pub const RATE_LIMIT_SERVICE_ERROR: Flags = Flags(1 << 15);
    pub const UNAUTHORIZED_EXTERNALLY: Flags = Flags(1 << 16);

    const NAMES: [&'static str; 17] =
        ["UH", "UF", "UO", "UT", "UC", "UR", "UPE", "URX", "NR", "NC", "DI", "FI", "DC", "DPE", "RL", "RLSE", "UAEX"];

    pub fn named(name: &str) -> Option<Flags> {
        Flags::NAMES.iter().position(|other| *other == name).map(|bit| Flags(1 << bit))
    }

    pub fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Flags) {
        self.0 |= other.0;
    }
}

/// `UF,URX`; `-`: there is none.
impl std::fmt::Display for Flags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let set = Flags::NAMES.iter().enumerate().filter(|(bit, _)| self.0 & (1 << bit) != 0);
        let names = set.map(|(_, name)| *name).collect::<Vec<_>>();
        f.write_str(if names.is_empty() { "-" } else { "" })?;
        f.write_str(&names.join(","))
    }
}
