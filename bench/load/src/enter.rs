//! Runs a program in a pod: its network namespace and its cgroup.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{getrlimit, set_parent_process_death_signal, setrlimit, Resource, Rlimit, Signal};
use rustix::thread::{move_into_link_name_space, sched_setaffinity, CpuSet, LinkNameSpaceType};

use crate::{number, Failure};

/// Becomes `command` in network namespace `netns` and cgroup `cgroup` (paths), on the CPUs `cpus`; `-` leaves each as it is.
pub fn enter(netns: &str, cgroup: &str, cpus: &str, command: &[&str]) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    raise_descriptor_limit()?;
    if cgroup != "-" {
        let procs = format!("{cgroup}/cgroup.procs");
        std::fs::write(&procs, "0").map_err(|e| format!("{procs}: {e}"))?;
    }
    if netns != "-" {
        let file = File::open(netns).map_err(|e| format!("{netns}: {e}"))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|e| format!("enter {netns}: {e}"))?;
    }
    if cpus != "-" {
        let mut set = CpuSet::new();
        for cpu in cpus.split(',') {
            set.set(number(cpu)?);
        }
        sched_setaffinity(None, &set).map_err(|e| format!("CPUs {cpus}: {e}"))?;
    }
    Err(format!("{}: {}", command[0], Command::new(command[0]).args(&command[1..]).exec()).into())
}

/// As many descriptors as we may have: the soft limit is often 1,024.
fn raise_descriptor_limit() -> Result<(), Failure> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .map_err(|e| format!("limit of descriptors: {e}").into())
}
