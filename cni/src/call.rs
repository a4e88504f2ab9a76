//! What the runtime asks for: the command, the pod, its network namespace.

use std::env;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::config::Config;
use crate::failure::{self, Failure};

/// What the agent is told, as one JSON object.
#[derive(Serialize)]
pub struct Call<'a> {
    pub command: &'a str,
    container: String,
    netns: String,
    pub namespace: String,
    pub name: String,
    uid: String,
    result: Option<&'a RawValue>,
    attachments: Option<&'a RawValue>,
}

impl<'a> Call<'a> {
    /// From the environment, where the specification puts it; refuses what is not complete.
    pub fn read(command: &'a str, config: &Config<'a>) -> Result<Self, Failure> {
        let variable = |name| env::var(name).unwrap_or_default();
        let arguments = variable("CNI_ARGS");
        let call = Call {
            command,
            container: variable("CNI_CONTAINERID"),
            netns: variable("CNI_NETNS"),
            namespace: argument(&arguments, "K8S_POD_NAMESPACE"),
            name: argument(&arguments, "K8S_POD_NAME"),
            uid: argument(&arguments, "K8S_POD_UID"),
            result: config.prev_result,
            attachments: config.attachments,
        };
        call.complete()?;
        Ok(call)
    }

    fn complete(&self) -> Result<(), Failure> {
        let enters = matches!(self.command, "ADD" | "CHECK");
        let of_a_pod = enters || self.command == "DEL";
        for (needed, name, value) in
            [(of_a_pod, "CNI_CONTAINERID", &self.container), (enters, "CNI_NETNS", &self.netns)]
        {
            if needed && value.is_empty() {
                let details = "the container runtime sets it for every call";
                return Err(Failure::new(failure::ENVIRONMENT, format!("{name} is missing"), details));
            }
        }
        if enters && self.result.is_none() {
            let details = "warren-cni makes no interface: list it after the plugin that does";
            return Err(Failure::new(failure::CONFIG, "prevResult is missing", details));
        }
        Ok(())
    }

    /// Whether the agent has a say. What is no pod of Kubernetes', or can never be captured, is not held.
    pub fn concerns_us(&self, config: &Config) -> bool {
        if matches!(self.command, "STATUS" | "GC") {
            return true;
        }
        !self.name.is_empty() && !config.excluded_namespaces.contains(&self.namespace) && !self.is_agent(&config.agent)
    }

    /// Whether this is a pod of the agent's DaemonSet: its name, a dash, and what makes it unique.
    fn is_agent(&self, agent: &str) -> bool {
        let Some((namespace, set)) = agent.split_once('/') else { return false };
        let suffix = self.name.strip_prefix(set).and_then(|rest| rest.strip_prefix('-'));
        self.namespace == namespace && suffix.is_some_and(|unique| !unique.contains('-'))
    }

    /// What a call that went well prints: after ADD the interface's result, as it came.
    pub fn output(&self) -> &str {
        match self.result {
            Some(result) if self.command == "ADD" => result.get(),
            _ => "",
        }
    }
}

/// One value of CNI_ARGS, `KEY=VALUE;KEY=VALUE`; empty when it is not there.
fn argument(arguments: &str, key: &str) -> String {
    let values = arguments.split(';').filter_map(|pair| pair.split_once('='));
    values.filter(|(name, _)| *name == key).map(|(_, value)| value.to_owned()).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = r#"{"cniVersion": "1.0.0", "socket": "/s", "agent": "warren-system/warren-node",
        "excludedNamespaces": ["kube-system"], "prevResult": { "ips" :[ ]}}"#;

    fn call<'a>(command: &'a str, config: &Config<'a>, namespace: &str, name: &str) -> Call<'a> {
        Call {
            command,
            container: "c".to_owned(),
            netns: "/n".to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: String::new(),
            result: config.prev_result,
            attachments: None,
        }
    }

    #[test]
    fn who_is_held() {
        let config = Config::parse(ENTRY, "ADD").unwrap();
        for (namespace, name, held) in [
            ("default", "web", true),
            ("kube-system", "coredns-1", false),
            ("warren-system", "warren-node-x7k2p", false),
            ("warren-system", "warren-node", true),
            ("warren-system", "warren-node-x-1", true),
            ("warren-system", "warren-ca-1", true),
            ("default", "warren-node-x7k2p", true),
            ("", "", false),
        ] {
            assert_eq!(call("ADD", &config, namespace, name).concerns_us(&config), held, "{namespace}/{name}");
        }
        assert!(call("STATUS", &config, "", "").concerns_us(&config));
    }

    #[test]
    fn the_result_is_handed_on_as_it_came() {
        let config = Config::parse(ENTRY, "ADD").unwrap();
        assert_eq!(call("ADD", &config, "default", "web").output(), r#"{ "ips" :[ ]}"#);
        assert_eq!(call("CHECK", &config, "default", "web").output(), "");
    }

    #[test]
    fn what_must_be_there() {
        let mut config = Config::parse(ENTRY, "ADD").unwrap();
        let code = |call: Call| call.complete().err().map(|failure| failure.code);
        assert_eq!(code(Call { netns: String::new(), ..call("ADD", &config, "a", "b") }), Some(failure::ENVIRONMENT));
        assert_eq!(code(Call { netns: String::new(), ..call("DEL", &config, "a", "b") }), None);
        assert_eq!(
            code(Call { container: String::new(), ..call("DEL", &config, "a", "b") }),
            Some(failure::ENVIRONMENT)
        );
        config.prev_result = None;
        assert_eq!(code(call("ADD", &config, "a", "b")), Some(failure::CONFIG));
        assert_eq!(code(call("DEL", &config, "a", "b")), None);
    }

    #[test]
    fn arguments() {
        let text = "IgnoreUnknown=1;K8S_POD_NAME=web-0;K8S_POD_UID=a=b";
        assert_eq!(argument(text, "K8S_POD_NAME"), "web-0");
        assert_eq!(argument(text, "K8S_POD_UID"), "a=b");
        assert_eq!(argument(text, "K8S_POD"), "");
        assert_eq!(argument("", "K8S_POD_NAME"), "");
    }
}
