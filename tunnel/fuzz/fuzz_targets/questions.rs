#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| _core::fuzzing::questions(input));
