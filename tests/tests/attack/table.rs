//! Which kinds of attack there are, which tests drive each, and which guards these tests miss when they are taken out. Tests hold the
//! table against the patches in `tests/guards` and the tests of the workspace: neither is without a place here.
//!
//! A test with a path is one of this binary. One without is elsewhere: a scenario of `sim`, `hostile` or `tls`, or a unit test beside the
//! code. A guard's patch says which tests miss it; some are proved in memory, where what happens in an instant can be held up, and driven
//! here once more against whole endpoints. A kind without guards of its own is kept off by what is not there: nothing migrates to a
//! preferred address, TLS checks key shares; or by the guards of other kinds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A kind of attack.
struct Kind {
    what: &'static str,
    tests: &'static [&'static str],
    guards: &'static [&'static str],
}

const fn kind(what: &'static str, tests: &'static [&'static str], guards: &'static [&'static str]) -> Kind {
    Kind { what, tests, guards }
}

#[rustfmt::skip]
const KINDS: &[Kind] = &[
    kind(
        "frame types: unknown ones, and known ones in every width",
        &[
            "parsing::frame_types_of_every_width_at_a_server", "parsing::frame_types_of_every_width_in_the_handshake",
            "parsing::frame_types_of_every_width_at_a_client",
        ],
        &["frame-type-unknown", "frame-type-width"],
    ),
    kind(
        "transport parameters: empty, truncated, too large, twice, of servers",
        &[
            "parsing::damaged_transport_parameters_of_clients", "parsing::damaged_transport_parameters_of_servers",
            "h3spec::transport_parameters", "h3spec::missing_extensions_of_a_server",
        ],
        &[
            "transport-parameter-twice", "transport-parameter-length", "transport-parameter-of-servers",
            "transport-parameter-authentication", "draft-transport-parameters", "stream-limit-of-the-peer", "ack-delay-exponent",
        ],
    ),
    kind(
        "first packets again after a Retry or a refusal, and forged in front of a good one",
        &[
            "admission::the_same_first_packet_again_after_a_retry", "flipped_bits_are_dropped",
            "a_handshake_with_a_retry_bears_the_loss_of_any_datagram", "the_application_decides_about_each_client",
        ],
        &["forged-first-packet", "forged-first-of-those-that-wait", "undersized-initial"],
    ),
    kind(
        "first destination ids of 0 to 255 bytes",
        &["parsing::first_destination_ids_of_every_length", "parsing::first_destination_ids_that_are_too_long"],
        &["short-first-destination"],
    ),
    kind(
        "Retry packets: short, forged, for others, with long tokens",
        &["parsing::retry_packets_that_end_early", "parsing::retry_packets_for_others"],
        &["retry-without-tag", "retry-integrity", "retry-token-length"],
    ),
    kind(
        "ACK frames with more ranges than bytes",
        &["parsing::ack_frames_with_more_ranges_than_bytes"],
        &["ack-range-count"],
    ),
    kind(
        "packets that end inside a frame type or a token",
        &[
            "parsing::packets_that_end_inside_a_frame_type", "parsing::packets_that_end_inside_a_frame_type_at_a_client", "parsing::initial_packets_with_tokens_of_any_length",
            "parsing::initial_packets_that_end_inside_the_token",
        ],
        &["frame-type-truncated"],
    ),
    kind(
        "header-protection samples that overflow a counter",
        &[
            "samples::counters_of_all_ones_at_a_server", "samples::counters_of_all_ones_at_a_client",
            "samples::samples_of_all_ones_in_the_handshake",
        ],
        &["sample-counter"],
    ),
    kind(
        "failures of TLS in the middle of a datagram, duplicate Initial packets",
        &[
            "parsing::duplicate_initial_packets", "parsing::tls_failures_inside_a_datagram", "parsing::tls_failures_inside_a_datagram_at_a_client",
            "parsing::errors_between_a_client_hello_and_more", "h3spec::tls_messages",
        ],
        &["tls-failure-ends"],
    ),
    kind(
        "Version Negotiation and Retry that come late, or to a server",
        &[
            "forgeries::late_first_answers_to_a_client", "forgeries::first_answers_to_a_server",
            "forgeries::version_negotiation_before_anything_was_heard",
        ],
        &["first-answer-only"],
    ),
    kind(
        "handshakes permuted; HANDSHAKE_DONE and other packets before their time",
        &[
            "handshakes::a_permuted_handshake_of_a_client", "handshakes::a_permuted_handshake_of_a_server",
            "handshakes::handshake_done_out_of_place", "handshakes::handshake_done_before_the_handshake_is_complete",
            "an_early_handshake_done_is_a_violation",
            "handshakes::early_packets_count_when_there_are_keys", "handshakes::packets_before_finished_are_kept_by_the_ten",
        ],
        &["handshake-done-early", "kept-packets", "finished-first", "frame-of-servers"],
    ),
    kind(
        "Initial packets without end, also while TLS is at work",
        &["handshakes::ten_thousand_initial_packets_of_one_client", "initials_while_a_step_of_tls_is_out_are_bounded"],
        &[],
    ),
    kind(
        "STOP_SENDING while a read or a write is parked; streams stopped in masses",
        &["streams::a_stop_while_a_read_or_a_write_is_parked", "streams::a_stop_while_a_client_reads_or_writes"],
        &["stopped-streams-are-reset", "stopped-streams-wait"],
    ),
    kind(
        "periods at the borders of what is possible: probes without end, ACK delays of 2^62, the ends of the clock",
        &[
            "connections::probes_for_a_day", "forgeries::delays_of_no_time_and_of_all_time",
            "connections::the_clock_just_after_boot_and_near_its_end", "probes_without_end", "round_trips_of_no_time_and_of_all_time",
            "the_ends_of_the_clock",
        ],
        &["probe-back-off"],
    ),
    kind(
        "a peer with a window of one byte that never reads; the largest codes",
        &["streams::a_peer_with_a_window_of_one_byte", "streams::the_largest_codes_of_applications"],
        &["send-buffer-sum"],
    ),
    kind(
        "frames in packets that forbid them, packets without frames, reserved bits",
        &[
            "frames::each_frame_in_each_packet_from_a_client", "frames::each_frame_in_each_packet_from_a_server",
            "frames::each_frame_in_early_data", "h3spec::packets", "h3spec::handshake_packets", "h3spec::early_data",
        ],
        &["frame-in-packet", "packet-without-frames", "reserved-bits"],
    ),
    kind(
        "final sizes that change",
        &[
            "frames::final_sizes_that_change_from_a_client", "frames::final_sizes_that_change_from_a_server",
            "streams::final_sizes_that_move",
        ],
        &["final-size"],
    ),
    kind(
        "frames of the wrong direction, and for streams that were never opened",
        &["streams::frames_of_the_wrong_direction", "h3spec::streams"],
        &["stream-direction", "stream-direction-sending", "stream-direction-receiving", "stream-not-opened"],
    ),
    kind(
        "NEW_CONNECTION_ID without end, acknowledgements withheld",
        &[
            "ids::retirements_that_are_not_acknowledged_are_bounded", "ids::a_client_bounds_retirements_too",
            "ids::retirements_that_are_acknowledged_leave_nothing",
        ],
        &["retirement-bound"],
    ),
    kind(
        "NEW_CONNECTION_ID that contradicts another, or brings an id back",
        &["ids::ids_that_change_or_come_back_are_a_violation", "h3spec::frames"],
        &["retired-id-memory", "retire-prior-to", "connection-id-length"],
    ),
    kind(
        "PATH_CHALLENGE without end, acknowledgements withheld",
        &["connections::challenges_are_not_queued"],
        &["challenge-bound"],
    ),
    kind(
        "packets of one connection from everywhere",
        &["admission::packets_from_all_ports_are_dropped"],
        &["connection-address"],
    ),
    kind(
        "CRYPTO far ahead, or in pieces, at each level",
        &[
            "crypto::high_offsets_at_a_server", "crypto::high_offsets_at_a_client", "crypto::sparse_pieces_at_a_server",
            "crypto::sparse_pieces_at_a_client", "crypto::whole_windows_of_many_clients",
        ],
        &["crypto-buffer-bound", "crypto-window", "crypto-pieces"],
    ),
    kind(
        "CRYPTO when TLS is gone",
        &["frames::crypto_after_the_handshake_from_a_client", "frames::crypto_after_the_handshake_from_a_server"],
        &["crypto-from-clients", "crypto-of-left-levels", "crypto-other-than-tickets"],
    ),
    kind(
        "STREAM in single bytes between gaps, at random offsets",
        &["streams::single_bytes_between_gaps"],
        &["reassembly-bound", "random-offsets"],
    ),
    kind(
        "datagrams with packets for many connections",
        &[
            "admission::packets_for_others_in_a_datagram_cost_nothing", "admission::a_second_id_in_a_datagram_is_not_listened_to",
            "admission::packets_for_connections_of_several_workers_are_forwarded_once",
        ],
        &["one-id-a-datagram"],
    ),
    kind(
        "floods of first packets, connections that nobody accepts",
        &["admission::connections_that_the_application_never_accepts_are_bounded", "a_flood_of_initials_is_bounded"],
        &["accept-backlog", "incoming-backlog", "incoming-datagrams", "pending-handshakes", "max-connections"],
    ),
    kind(
        "ACKs for hours, in either direction",
        &["acks::acknowledgements_for_hours", "acks::acknowledgements_that_nobody_acknowledges"],
        &["unheard-acknowledgements"],
    ),
    kind(
        "streams each within its limit, their sum above",
        &["streams::the_sum_of_streams_above_the_connections_limit", "streams::a_stream_above_its_own_limit", "h3spec::limits"],
        &["flow-control-connection", "flow-control-stream"],
    ),
    kind(
        "pieces of packets that the application keeps",
        &["streams::small_pieces_that_the_application_keeps"],
        &["pinned-pieces"],
    ),
    kind(
        "streams past the limit by every frame, and counts that no id reaches",
        &["streams::streams_past_the_limit", "h3spec::frames"],
        &["stream-limit", "stream-count-in-frames"],
    ),
    kind(
        "floods of streams, of empty frames, of empty datagrams",
        &["streams::a_flood_of_streams", "streams::empty_frames_without_end", "admission::datagrams_of_no_bytes"],
        &[],
    ),
    kind(
        "floods of datagrams, and such as were not permitted",
        &["streams::a_flood_of_datagrams"],
        &["datagram-limit", "datagram-queue"],
    ),
    kind(
        "0-RTT packets, replayed and for unknown ids",
        &[
            "zero_rtt::replays_are_dropped_in_each_state", "zero_rtt::replays_across_a_restart_are_dropped",
            "admission::packets_for_unknown_connections_leave_nothing",
        ],
        &["early-data-begins-nothing", "early-data-is-dropped", "stray-long-packets"],
    ),
    kind(
        "NEW_TOKEN without end",
        &["admission::a_flood_of_tokens_is_bounded"],
        &["new-token-count", "new-token-size"],
    ),
    kind(
        "memory that is short for the whole process",
        &["connections_share_one_budget_of_memory"],
        &["memory-gone", "memory-share", "memory-short"],
    ),
    kind(
        "ids, reset tokens and stream ids that collide",
        &["forgeries::reset_tokens_that_many_clients_have", "ids_that_collide_under_one_key_do_not_under_another"],
        &["keyed-tables", "stream-id-hash"],
    ),
    kind(
        "integers of QPACK without end, a byte at a time",
        &["qpack::integers_without_end_on_the_streams_of_qpack_and_in_a_field_section"],
        &["qpack-instruction-integer", "qpack-section-integer"],
    ),
    kind(
        "packet numbers that make each ACK long",
        &["acks::every_second_packet_number", "acks::acknowledgements_of_many_ranges"],
        &["ack-ranges-bound"],
    ),
    kind(
        "key updates without end, without keys, before the handshake is confirmed",
        &["connections::a_flood_of_key_updates", "connections::a_flood_of_key_updates_by_a_server"],
        &["key-update-flood", "old-keys-acknowledge-new", "aead-confidentiality-limit", "aead-integrity-limit"],
    ),
    kind(
        "PING without end",
        &["connections::pings_cost_less_to_answer_than_to_send"],
        &["acknowledged-in-pairs"],
    ),
    kind(
        "packets that come as probes of a peer that does not hear us",
        &["feigned_probes_draw_one_datagram_more_until_one_is_acknowledged"],
        &["feigned-probes"],
    ),
    kind(
        "losses and marks without end",
        &["never_below_two_datagrams", "persistent_congestion_starts_over"],
        &["minimum-window"],
    ),
    kind(
        "packets without end after a close, and closes before the handshake is over",
        &["a_lost_close_is_said_again_and_who_hears_it_is_silent", "a_close_at_any_moment_reaches_the_other_end"],
        &["close-answers", "close-in-handshake"],
    ),
    kind(
        "idle timeouts below a round trip",
        &["connections::an_idle_timeout_of_a_millisecond"],
        &["idle-timeout-floor"],
    ),
    kind(
        "two endpoints that know nothing of each other",
        &["admission::two_endpoints_do_not_talk_for_ever", "packets_for_nobody_get_shrinking_answers"],
        &["reset-loop", "reset-budget"],
    ),
    kind(
        "RETIRE_CONNECTION_ID of the last id, again and again",
        &["ids::the_last_id_is_retired_again_and_again"],
        &[],
    ),
    kind(
        "tokens: made up, expired, of others, used before, from the future",
        &[
            "tokens::retry_tokens_of_others_and_of_another_time", "tokens::tokens_of_addresses_that_prove_nothing",
            "admission::nobody_gets_more_than_three_times_what_it_sent", "a_token_of_an_earlier_connection_saves_the_retry",
        ],
        &["token-address", "token-expiry", "token-from-the-future", "token-register-overflow", "token-used-once", "retry-token-place"],
    ),
    kind(
        "three times what a client sent and no more",
        &[
            "three_times_what_a_client_sent_and_no_more", "admission::nobody_gets_more_than_three_times_what_it_sent",
            "admission::another_address_gets_nothing",
        ],
        &["amplification-3x"],
    ),
    kind(
        "ACKs of packets that were not sent, or left out",
        &["acks::packets_that_were_never_sent", "acks::packets_that_were_left_out"],
        &["ack-of-unsent-packet", "ack-of-skipped-packet"],
    ),
    kind(
        "ECN counts that exceed, fall or are missing",
        &[
            "ecn::counts_that_exceed_what_was_sent", "ecn::counts_that_fall", "ecn::counts_that_are_missing",
            "ecn::counts_of_marks_that_nobody_sent", "ecn::counts_that_fit_keep_the_marks",
        ],
        &["ecn-counts-exceed", "ecn-counts-fall", "ecn-counts-missing"],
    ),
    kind(
        "stateless resets: forged, predicted, of neighbours",
        &[
            "admission::a_datagram_that_ends_in_zeros_resets_nothing", "observers::reset_tokens_that_are_guessed_from_visible_ids",
            "ids::guessed_ids_lead_nowhere", "ids::ids_of_a_previous_boot",
        ],
        &["zero-reset-token", "reset-token-secret", "reset-of-neighbours"],
    ),
    kind(
        "closes with keys that everybody has; packets that nobody sealed; packets again",
        &["forgeries::closes_with_the_keys_that_everybody_has", "forgeries::bodies_that_nobody_sealed"],
        &["initial-keys-discarded", "aead-tag-check", "duplicate-packet"],
    ),
    kind(
        "a path that claims to be narrower than QUIC",
        &["forgeries::a_path_that_claims_to_be_narrower_than_quic"],
        &["dont-fragment"],
    ),
    kind(
        "a preferred address that is not the server's; copies that come before the original, from elsewhere",
        &["connections::a_preferred_address_that_is_not_the_servers", "observers::copies_from_another_port_that_come_first"],
        &[],
    ),
    kind(
        "certificates of nobody, of others, missing",
        &[
            "a_bad_certificate_of_a_client_is_refused_with_its_alert", "a_server_that_is_not_the_one_meant_is_left_with_an_alert",
            "what_the_name_of_the_certificate_is_not_ends_the_handshake",
        ],
        &["client-certificate"],
    ),
    kind(
        "key shares cut, stretched, spoilt; hellos of several packets; HelloRetryRequest",
        &[
            "key_exchange::shares_of_clients_with_a_wrong_length", "key_exchange::shares_of_servers_with_a_wrong_length",
            "key_exchange::shares_that_are_spoilt", "key_exchange::hellos_of_several_packets", "key_exchange::a_request_for_another_group",
        ],
        &[],
    ),
    kind(
        "versions: hidden from a client, shown and not chosen, confirmed by nobody, with the types of another; ClientHellos without end",
        &[
            "a_forged_version_negotiation_is_found_out", "only_the_first_version_negotiation_counts",
            "a_first_flight_in_another_version_than_it_says_is_refused", "a_server_that_is_made_to_seem_of_another_version_is_not_believed",
            "what_a_server_says_must_fit_what_the_client_went_by", "packets_of_another_version_are_dropped", "types_by_version",
            "parsing_failures", "a_token_is_good_for_the_version_that_it_came_from", "tokens_belong_to_the_version_that_was_agreed_on",
            "an_endless_client_hello_is_refused_at_once", "a_client_hello_costs_nothing_before_it_is_whole",
        ],
        &[
            "version-hidden", "version-of-first-flight", "version-negotiation-once", "version-confirmed", "version-information-zero",
            "token-version", "token-of-agreed-version", "client-hello-length",
        ],
    ),
    kind(
        "tickets that clients show: forged, late, renewed without end, of other versions, names or wants, by the hundred",
        &[
            "forged_tickets_lead_to_a_full_handshake", "a_ticket_has_its_time", "renewal_ends_at_the_server", "a_ticket_of_another_version",
            "a_ticket_of_another_name", "a_ticket_gets_around_no_certificate", "few_tickets_are_opened_for_one_client_hello",
        ],
        &["ticket-tag", "ticket-expiry", "ticket-renewal", "ticket-version", "ticket-client-policy", "ticket-offers"],
    ),
    kind(
        "tickets that servers give: for no time or for ever, in any number; shown to others than who gave them",
        &[
            "lifetimes_that_a_server_may_not_set", "tickets_that_limit_early_data_by_a_size", "a_store_has_its_bounds", "a_ticket_of_another_name", "a_ticket_of_another_version",
            "configurations_share_a_store_and_no_session",
        ],
        &[
            "ticket-lifetime", "ticket-early-data-size", "session-store-servers", "session-store-tickets", "ticket-server-name", "ticket-version-client",
            "ticket-configuration",
        ],
    ),
    kind(
        "early data: replayed at once and later, spoilt, under worse terms or another protocol; used tickets without end, or forgotten",
        &[
            "replays_are_rejected", "a_copy_is_of_no_use_at_any_time", "early_data_that_comes_late", "a_failed_handshake_leaves_the_ticket",
            "terms_must_be_kept", "another_application_protocol", "a_server_that_accepts_early_data_under_another_protocol",
            "a_full_register_rejects_early_data_and_resumes", "a_lost_register_rejects_early_data_and_resumes",
        ],
        &[
            "early-data-once", "early-data-generation", "early-data-issuer", "early-data-clock", "early-data-register", "early-data-restore",
            "early-data-terms", "early-data-protocol",
        ],
    ),
    kind(
        "bursts",
        &["nothing_leaves_in_bursts"],
        &["pacer-burst"],
    ),
];

/// The files of these tests prove the attacker itself, and this table.
const NOT_ATTACKS: [&str; 3] = ["peers", "codecs", "table"];

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// The sources under a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it is readable").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The names of the tests in a file.
fn tests_in(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).expect("it is text");
    let tests = text.split("#[test]").skip(1).filter_map(|rest| rest.split_once("fn ")?.1.split_once('('));
    tests.map(|(name, _)| name.to_owned()).collect()
}

/// All tests as the table names them: those of this binary with their file, others by their names alone.
fn tests() -> (BTreeSet<String>, BTreeSet<String>) {
    let here = top().join("tests/tests/attack");
    let mut files = Vec::new();
    for folder in ["tests/tests", "quic/src", "crypto/src"] {
        sources(&top().join(folder), &mut files);
    }
    let (mut attacks, mut others) = (BTreeSet::new(), BTreeSet::new());
    for file in files {
        if file.parent() == Some(&here) {
            let module = file.file_stem().expect("a name").to_string_lossy();
            attacks.extend(tests_in(&file).into_iter().map(|name| format!("{module}::{name}")));
        } else {
            others.extend(tests_in(&file));
        }
    }
    (attacks, others)
}

#[test]
fn each_test_has_a_place_in_the_table() {
    let (attacks, others) = tests();
    let mut named = BTreeMap::new();
    for Kind { what, tests, .. } in KINDS {
        assert!(!tests.is_empty(), "nothing drives {what}");
        for test in *tests {
            assert!(attacks.contains(*test) || others.contains(*test), "{what}: there is no test {test}");
            named.entry(*test).or_insert(*what);
        }
    }
    for test in attacks {
        let module = test.split("::").next().expect("a module");
        assert!(NOT_ATTACKS.contains(&module) || named.contains_key(&test[..]), "{test} stands at no kind of attack");
    }
}

#[test]
fn each_guard_has_a_place_in_the_table() {
    let mut named = BTreeSet::new();
    for Kind { what, guards, .. } in KINDS {
        for guard in *guards {
            assert!(named.insert((*guard).to_owned()), "{what}: {guard} is named twice");
        }
    }
    let patches = fs::read_dir(top().join("tests/guards")).expect("the folder is there");
    let patches = patches.filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".patch")?.to_owned()));
    assert_eq!(named, patches.collect::<BTreeSet<_>>());
}
