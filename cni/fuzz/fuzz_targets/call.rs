//! What a runtime hands to the plugin: a command and CNI_ARGS, each a line, then the configuration. The plugin is a program
//! without a library, so its files are here once more.
#![no_main]
#![allow(dead_code)]

#[path = "../../src/agent.rs"]
mod agent;
#[path = "../../src/call.rs"]
mod call;
#[path = "../../src/config.rs"]
mod config;
#[path = "../../src/failure.rs"]
mod failure;

use std::env;

use call::Call;
use config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let mut lines = input.splitn(3, '\n');
    let (command, arguments, entry) = (lines.next(), lines.next(), lines.next());
    let (Some(command), Some(arguments), Some(entry)) = (command, arguments, entry) else { return };
    if arguments.contains('\0') {
        return; // the kernel hands on none
    }
    env::set_var("CNI_ARGS", arguments);
    env::set_var("CNI_CONTAINERID", "c");
    env::set_var("CNI_NETNS", "/n");
    match Config::parse(entry, command).and_then(|config| {
        let call = Call::read(command, &config)?;
        assert!(agent::patience(&call, &config).as_secs() <= 240);
        assert!(call.output().is_empty() || entry.contains(call.output()));
        Ok(call.concerns_us(&config))
    }) {
        Ok(_) => {}
        Err(failure) => assert!(
            failure.code != 0
                && serde_json::from_str::<serde_json::Value>(&failure.json(config::version_of(entry))).is_ok()
        ),
    }
});
