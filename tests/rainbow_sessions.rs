//! Every session recorded from rainbow-server 0.05, played against the binary on io_uring and on epoll.
//!
//! Sessions whose recorded behaviour is a bug are replaced, see `golden/rainbow_sessions_fixed.json`. Some use the original's
//! timers (up to 30 s) and sleep nearly all the time: run with `-- --test-threads=32` to be done in about a minute.
#![cfg(feature = "runtime")]

mod common;

use common::sessions::{self, Driver};

/// One test per session and driver, and the list of all names.
macro_rules! sessions {
    ($($name:ident),* $(,)?) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        mod default_driver {
            use super::*;
            $(#[test] fn $name() { sessions::run(stringify!($name), Driver::Default) })*
        }
        mod epoll {
            use super::*;
            $(#[test] fn $name() { sessions::run(stringify!($name), Driver::Epoll) })*
        }
    };
}

sessions! {
    connect_headers,
    connect_query,
    connect_missing_credentials,
    connect_auth_fail,
    connect_auth_broken,
    connect_auth_ok_variants,
    connect_auth_timeout,
    connect_not_websocket,
    connect_reply_channels,
    up_qos0,
    up_qos1,
    up_qos2,
    up_qos2_no_dup_flag_repeats,
    up_business_error,
    up_business_timeout,
    up_empty_payload_never_forwarded,
    up_not_ordered,
    up_qos3_bits,
    up_malformed_ignored,
    up_text_frames,
    header_invalid_is_only_logged,
    down_qos0,
    down_no_subscriber,
    down_qos1,
    down_qos2,
    down_answer_of_the_other_kind,
    down_retry_timeout,
    down_retry_default,
    down_short_timeouts,
    down_timeout_multiple_of_3,
    down_late_ack,
    down_caller_leaves,
    down_two_clients,
    down_two_clients_one_silent,
    down_only_client_leaves,
    down_concurrent_same_channel,
    down_ack_not_utf8,
    keepalive_no_pong,
    close_handshake,
    auth_then_gone_ghost,
    api_sub_unsub,
    api_occupy_unknown_identity,
    api_sub_errors,
    api_send_errors,
    api_signature,
    api_methods_paths,
    api_serverinfo_updateconfig,
    config_forward_without_placeholder,
    config_forward_with_query,
    config_forward_double_braces,
    cluster_send,
    cluster_membership,
    shutdown_term,
}

#[test]
fn no_session_is_skipped() {
    assert_eq!(sessions::names(sessions::recorded()), NAMES);
}

/// A quirk that must not be reproduced needs a replacement, and a replacement needs a recorded session.
#[test]
fn replacements_match_recorded_sessions() {
    let replaced = sessions::names(sessions::replacements());
    for session in sessions::recorded()["sessions"].as_array().expect("sessions") {
        let name = session["name"].as_str().expect("name");
        assert!(
            session["recommend"] != "fix" || replaced.contains(&name),
            "{name} needs a replacement"
        );
    }
    for name in replaced {
        assert!(NAMES.contains(&name), "{name} replaces nothing");
    }
}
