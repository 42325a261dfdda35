#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    rainbow_server::fuzzing::gateway_calls(data);
});
