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
            "limits::first_datagrams_that_are_too_short",
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
            "parsing::packets_that_end_inside_a_frame_type", "parsing::packets_that_end_inside_a_frame_type_at_a_client",
            "parsing::initial_packets_with_tokens_of_any_length", "parsing::initial_packets_that_end_inside_the_token",
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
            "parsing::duplicate_initial_packets", "parsing::tls_failures_inside_a_datagram",
            "parsing::tls_failures_inside_a_datagram_at_a_client", "parsing::errors_between_a_client_hello_and_more",
            "h3spec::tls_messages",
        ],
        &["tls-failure-ends"],
    ),
    kind(
        "Version Negotiation and Retry that come late, or to a server",
        &[
            "forgeries::late_first_answers_to_a_client", "forgeries::first_answers_to_a_server",
            "forgeries::version_negotiation_before_anything_was_heard",
        ],
        &["first-answer-only", "negotiation-of-others", "negotiation-of-our-version"],
    ),
    kind(
        "handshakes permuted; HANDSHAKE_DONE and other packets before their time",
        &[
            "handshakes::a_permuted_handshake_of_a_client", "handshakes::a_permuted_handshake_of_a_server",
            "handshakes::handshake_done_out_of_place", "handshakes::handshake_done_before_the_handshake_is_complete",
            "an_early_handshake_done_is_a_violation", "handshakes::early_packets_count_when_there_are_keys",
            "handshakes::packets_before_finished_are_kept_by_the_ten",
        ],
        &["handshake-done-early", "kept-packets", "finished-first", "frame-of-servers"],
    ),
    kind(
        "Initial packets without end, also while TLS is at work",
        &["handshakes::ten_thousand_initial_packets_of_one_client", "initials_while_a_step_of_tls_is_out_are_bounded"],
        &["crypto-pieces"],
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
        &["crypto-from-clients", "crypto-of-left-levels", "tls-let-go", "crypto-other-than-tickets"],
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
        &[
            "limits::connections_past_the_limit", "limits::clients_that_wait_and_go_on_sending",
            "admission::connections_that_the_application_never_accepts_are_bounded", "a_flood_of_initials_is_bounded",
            "an_established_connection_goes_before_strangers_that_came_first",
        ],
        &["accept-backlog", "incoming-backlog", "incoming-datagrams", "pending-handshakes", "max-connections", "established-first"],
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
        "floods of streams, against a coroutine for each",
        &["streams::a_flood_of_streams", "streams::streams_that_never_end"],
        &["stream-limit"],
    ),
    kind(
        "empty frames and empty datagrams without end",
        &["streams::empty_frames_without_end", "admission::datagrams_of_no_bytes"],
        &["empty-datagrams"],
    ),
    kind(
        "floods of datagrams, and such as were not permitted",
        &["streams::a_flood_of_datagrams"],
        &["datagram-limit", "datagram-queue"],
    ),
    kind(
        "0-RTT packets, replayed and for unknown ids, and with what they must not carry",
        &[
            "zero_rtt::replays_are_dropped_in_each_state", "zero_rtt::replays_across_a_restart_are_dropped",
            "zero_rtt::captured_early_data_is_heard_once", "zero_rtt::captured_early_data_is_not_heard_after_a_restart",
            "zero_rtt::a_flood_of_early_data_is_bounded", "admission::packets_for_unknown_connections_leave_nothing",
            "frames::each_frame_in_early_data", "h3spec::early_data", "few_packets_are_kept_until_the_client_hello_is_read",
            "late_packets_are_opened_for_a_while", "a_client_opens_no_0_rtt_packets",
        ],
        &[
            "early-data-begins-nothing", "early-data-is-dropped", "early-data-frames", "early-data-over", "early-data-from-servers",
            "stray-long-packets",
        ],
    ),
    kind(
        "servers that break their word on early data: smaller limits, fewer streams, another protocol",
        &[
            "smaller_limits_and_acceptance_do_not_go_together", "another_protocol_ends_the_connection",
            "after_a_rejection_streams_begin_anew_and_those_past_the_limit_wait",
        ],
        &["early-data-limits", "early-data-other-protocol", "streams-withheld"],
    ),
    kind(
        "tickets without end, and none",
        &["a_flood_of_tickets_is_read_over", "a_client_waits_for_tickets_for_a_while", "frames::crypto_after_the_handshake_from_a_server"],
        &["ticket-count", "ticket-patience"],
    ),
    kind(
        "NEW_TOKEN without end",
        &["admission::a_flood_of_tokens_is_bounded"],
        &["new-token-count", "new-token-size"],
    ),
    kind(
        "memory that is short for the whole process",
        &["limits::memory_that_attackers_hold", "connections_share_one_budget_of_memory"],
        &["memory-gone", "memory-share", "memory-short"],
    ),
    kind(
        "more handshakes than the processors can do: of strangers, and of clients; steps of TLS that panic or never end",
        &[
            "strangers_are_sent_a_retry_within_a_tenth_of_a_second_of_overload",
            "an_established_connection_and_a_newcomer_are_served_in_a_flood_of_first_packets",
            "past_a_full_queue_clients_are_refused_and_those_who_were_let_in_go_on",
        ],
        &["overload-retry", "overload-refusal", "overload-quarter", "pool-queue-bound", "pool-worker-helps", "pool-panics", "pool-stuck-threads", "pool-stuck-bound"],
    ),
    kind(
        "ids, reset tokens and stream ids that collide",
        &["forgeries::reset_tokens_that_many_clients_have", "ids_that_collide_under_one_key_do_not_under_another"],
        &["keyed-tables", "stream-id-hash", "reset-token-address"],
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
        &[
            "connections::a_flood_of_key_updates", "connections::a_flood_of_key_updates_by_a_server",
            "limits::acknowledgements_of_new_keys_under_old_ones",
        ],
        &["key-update-flood", "old-keys-acknowledge-new", "aead-confidentiality-limit", "aead-integrity-limit"],
    ),
    kind(
        "PING without end",
        &["connections::pings_cost_less_to_answer_than_to_send"],
        &["acknowledged-in-pairs"],
    ),
    kind(
        "packets that come as probes of a peer that does not hear us",
        &["limits::pings_that_feign_probes", "feigned_probes_draw_one_datagram_more_until_one_is_acknowledged"],
        &["feigned-probes"],
    ),
    kind(
        "losses and marks without end",
        &["limits::marks_and_losses_without_end", "never_below_two_datagrams", "persistent_congestion_starts_over"],
        &["minimum-window"],
    ),
    kind(
        "packets without end after a close, and closes before the handshake is over",
        &[
            "limits::packets_without_end_after_a_close", "limits::closes_of_the_application_during_a_handshake",
            "a_lost_close_is_said_again_and_who_hears_it_is_silent", "a_close_at_any_moment_reaches_the_other_end",
        ],
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
        &["retirement-of-the-id-in-use", "retirement-of-no-id"],
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
        &["amplification-3x", "datagram-counts-once"],
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
        &["zero-reset-token", "reset-token-secret", "reset-of-neighbours", "id-spelling"],
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
        &["connection-address"],
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
            "key_exchange::a_request_for_another_group_in_another_version",
        ],
        &["tls-failure-ends"],
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
            "tickets::forged_tickets_by_the_thousand",
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
            "tickets::more_early_data_than_can_be_remembered", "zero_rtt::captured_early_data_is_not_heard_after_a_restart",
        ],
        &[
            "early-data-once", "early-data-generation", "early-data-issuer", "early-data-clock", "early-data-register",
            "early-data-restore", "early-data-terms", "early-data-protocol",
        ],
    ),
    kind(
        "bursts",
        &["acks::acknowledgements_held_back", "nothing_leaves_in_bursts"],
        &["pacer-burst"],
    ),
];

/// By what names tests call their variants. A test that is not here drives one.
#[rustfmt::skip]
const VARIANTS: &[(&str, &[&str])] = &[
    ("acks::acknowledgements_held_back", &["ACKs of whole windows", "ACKs after a second"]),
    ("acks::acknowledgements_of_many_ranges", &["an ACK of many ranges", "ACKs of many ranges without end"]),
    ("acks::every_second_packet_number", &["every second number", "every second number, and no ACK"]),
    ("acks::packets_that_were_never_sent", &[
        "an ACK of the future", "an ACK of all up to the future", "an ACK of the last number that there can be",
    ]),
    ("admission::a_flood_of_tokens_is_bounded", &["a hundred thousand short tokens", "long tokens"]),
    ("admission::another_address_gets_nothing", &["a connection from another address", "a handshake from another address"]),
    ("admission::connections_that_the_application_never_accepts_are_bounded", &[
        "clients that nobody accepts", "clients that nobody looks at",
    ]),
    ("admission::datagrams_of_no_bytes", &["empty datagrams to a server", "empty datagrams to a client"]),
    ("admission::nobody_gets_more_than_three_times_what_it_sent", &[
        "a random token", "nonsense for TLS", "an unknown version", "a close", "early data", "twenty packets", "nothing more",
    ]),
    ("admission::packets_for_connections_of_several_workers_are_forwarded_once", &[
        "short packets for all workers", "a burst of full datagrams for all workers",
    ]),
    ("admission::packets_for_others_in_a_datagram_cost_nothing", &[
        "Handshake packets for others", "Initial packets for others", "0-RTT packets for others",
    ]),
    ("admission::packets_for_unknown_connections_leave_nothing", &[
        "0-RTT packets for a million unknown ids", "Handshake packets for unknown ids", "Retry packets for unknown ids",
    ]),
    ("admission::packets_from_all_ports_are_dropped", &[
        "PING from everywhere", "full datagrams from everywhere", "Handshake packets from everywhere",
    ]),
    ("admission::the_same_first_packet_again_after_a_retry", &[
        "refused after a Retry", "ignored after a Retry", "dropped after a Retry", "let in after a Retry",
    ]),
    ("connections::a_flood_of_key_updates", &[
        "phase flipped each packet", "phase flipped without keys", "an update by the first packet",
        "an update for each packet that was acknowledged",
    ]),
    ("connections::a_flood_of_key_updates_by_a_server", &[
        "phase flipped before the handshake is confirmed", "phase flipped without keys before the handshake is confirmed",
    ]),
    ("connections::a_preferred_address_that_is_not_the_servers", &[
        "a preferred address of the loopback", "a preferred address beside the client", "a preferred address of a private network",
    ]),
    ("connections::an_idle_timeout_of_a_millisecond", &["an idle timeout of 1 ms", "an idle timeout of 5 ms"]),
    ("connections::challenges_are_not_queued", &["PATH_CHALLENGE without ACKs", "PATH_CHALLENGE with ACKs"]),
    ("connections::pings_cost_less_to_answer_than_to_send", &["PING with ACKs", "PING without ACKs", "PING in full datagrams"]),
    ("connections::probes_for_a_day", &["probes for a day, from near", "probes for a day, from far"]),
    ("forgeries::a_path_that_claims_to_be_narrower_than_quic", &[
        "an interface that is too narrow for a while", "a router that is too narrow for a while",
    ]),
    ("forgeries::delays_of_no_time_and_of_all_time", &["ACK delays of 2^62 from here", "ACK delays of 2^62 from far"]),
    ("forgeries::reset_tokens_that_many_clients_have", &["one reset token of many clients", "reset tokens that differ in a byte"]),
    ("forgeries::version_negotiation_before_anything_was_heard", &[
        "Version Negotiation that names the client's version", "Version Negotiation for another client",
        "Version Negotiation from another server", "Version Negotiation in order",
    ]),
    ("frames::crypto_after_the_handshake_from_a_server", &["endless tickets", "CRYPTO after the handshake"]),
    ("frames::final_sizes_that_change_from_a_client", &[
        "data behind the end", "an end further on", "an end further back", "an end before what came", "a reset before what came",
        "a reset that moves the end", "a second reset that does", "data behind a reset", "a reset beyond the limit",
        "a reset beyond all limits", "an end beyond the limit",
    ]),
    ("handshakes::early_packets_count_when_there_are_keys", &["an early acknowledgement of what was not sent", "early streams"]),
    ("handshakes::packets_before_finished_are_kept_by_the_ten", &["full packets before Finished", "short packets before Finished"]),
    ("handshakes::ten_thousand_initial_packets_of_one_client", &["Initial packets that repeat", "Initial packets that go on"]),
    ("ids::ids_of_a_previous_boot", &["ids of a previous boot", "ids of a previous boot with another secret"]),
    ("ids::ids_that_change_or_come_back_are_a_violation", &[
        "another id", "another token", "another number", "a retired number with another id", "a retired id with another number",
    ]),
    ("ids::retirements_that_are_not_acknowledged_are_bounded", &[
        "NEW_CONNECTION_ID without acknowledgements", "a million of NEW_CONNECTION_ID",
    ]),
    ("ids::the_last_id_is_retired_again_and_again", &[
        "RETIRE_CONNECTION_ID", "RETIRE_CONNECTION_ID from several addresses", "RETIRE_CONNECTION_ID of the id in use",
        "RETIRE_CONNECTION_ID of the next id to come", "RETIRE_CONNECTION_ID of the last that there can be",
    ]),
    ("limits::acknowledgements_of_new_keys_under_old_ones", &["one packet of new keys", "many packets of new keys"]),
    ("limits::clients_that_wait_and_go_on_sending", &["a client that waits and sends without end", "twenty clients that wait and send"]),
    ("limits::closes_of_the_application_during_a_handshake", &["a close before the server's Finished is heard", "a close before Finished"]),
    ("limits::connections_past_the_limit", &["clients that come and stay", "clients that come again and again"]),
    ("limits::first_datagrams_that_are_too_short", &[
        "a first datagram a byte too short", "half a first datagram", "the shortest first datagram",
    ]),
    ("limits::marks_and_losses_without_end", &["marks without end", "losses without end"]),
    ("limits::memory_that_attackers_hold", &["memory held by what nobody reads", "memory held by what has gaps"]),
    ("limits::packets_without_end_after_a_close", &["packets after an error", "packets after a close of the application"]),
    ("limits::pings_that_feign_probes", &["PING at doubling distances", "PING at growing distances"]),
    ("observers::copies_from_another_port_that_come_first", &[
        "racing copies behind the handshake", "racing copies of the whole handshake",
    ]),
    ("observers::reset_tokens_that_are_guessed_from_visible_ids", &["of a neighbour", "of another", "a token of the id"]),
    ("parsing::ack_frames_with_more_ranges_than_bytes", &[
        "ACKs to a server with too many ranges", "ACKs to a client with too many ranges",
    ]),
    ("qpack::integers_without_end_on_the_streams_of_qpack_and_in_a_field_section", &[
        "zeros on the encoder stream", "ones on the encoder stream", "zeros on the decoder stream", "ones on the decoder stream",
        "zeros in a field section", "ones in a field section",
    ]),
    ("streams::a_flood_of_datagrams", &[
        "datagrams that nobody reads", "datagrams that were not permitted", "a peer that permits few datagrams",
        "a datagram that was not permitted",
    ]),
    ("streams::a_flood_of_streams", &["streams that end at once", "streams that are reset at once"]),
    ("streams::a_peer_with_a_window_of_one_byte", &["a window of one byte for all streams", "a window of one byte for each stream"]),
    ("streams::a_stop_while_a_client_reads_or_writes", &[
        "STOP_SENDING and the end while a client reads", "STOP_SENDING and a reset while a client reads",
    ]),
    ("streams::a_stream_above_its_own_limit", &["a stream above its limit", "a stream above a client's limit"]),
    ("streams::empty_frames_without_end", &["empty frames within a stream", "empty frames at its end"]),
    ("streams::single_bytes_between_gaps", &["single bytes in order", "single bytes at random offsets"]),
    ("streams::small_pieces_that_the_application_keeps", &[
        "pieces of streams that are kept", "pieces of streams and datagrams that are kept",
    ]),
    ("streams::streams_that_never_end", &["streams that never go on", "streams that never begin"]),
    ("streams::the_largest_codes_of_applications", &["the largest codes to a server", "the largest code to a client"]),
    ("tickets::forged_tickets_by_the_thousand", &[
        "a ticket with a bit flipped", "a ticket cut short", "a ticket with bytes behind it", "a ticket of nobody",
    ]),
    ("tokens::retry_tokens_of_others_and_of_another_time", &[
        "a Retry's token from another port", "a Retry's token from another address", "a Retry's token that was used",
        "a Retry's token too late",
    ]),
    ("tokens::tokens_of_addresses_that_prove_nothing", &[
        "an address's token from another address", "an address's token that has expired", "an address's token a week later",
        "an address's token from the future", "an address's token of another key", "an address's token with its key's number changed",
        "an address's token with a bit flipped", "an address's token cut short",
    ]),
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

/// Where whole endpoints are attacked, units beside the code do not count.
#[test]
fn each_kind_comes_in_two_variants() {
    let (mut endpoints, _) = tests();
    let mut files = Vec::new();
    sources(&top().join("tests/tests"), &mut files);
    endpoints.extend(files.iter().flat_map(|file| tests_in(file)));
    for (test, variants) in VARIANTS {
        assert!(endpoints.contains(*test), "there is no test {test}");
        let module = test.split("::").next().expect("a module");
        let text = fs::read_to_string(top().join(format!("tests/tests/attack/{module}.rs"))).expect("the test's file");
        for variant in *variants {
            assert!(text.contains(&format!("\"{variant}")), "{test} drives no \"{variant}\"");
        }
    }
    for Kind { what, tests, .. } in KINDS {
        let mut variants = BTreeSet::new();
        let is_of_endpoints = |test: &&&str| endpoints.contains(**test);
        let in_memory = !tests.iter().any(|test| is_of_endpoints(&test));
        for test in tests.iter().filter(|test| in_memory || is_of_endpoints(test)) {
            let named = VARIANTS.iter().find(|(of, _)| of == test).map_or(std::slice::from_ref(test), |(_, named)| *named);
            for variant in named {
                assert!(variants.insert(*variant), "{what}: \"{variant}\" is named twice");
            }
        }
        assert!(variants.len() >= 2, "{what}: {variants:?} is all there is");
    }
}

#[test]
fn each_guard_has_a_place_in_the_table() {
    let mut named = BTreeSet::new();
    for Kind { what, guards, .. } in KINDS {
        assert!(!guards.is_empty(), "{what}: nothing keeps it off");
        named.extend(guards.iter().map(|guard| (*guard).to_owned()));
    }
    let patches = fs::read_dir(top().join("tests/guards")).expect("the folder is there");
    let patches = patches.filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".patch")?.to_owned()));
    assert_eq!(named, patches.collect::<BTreeSet<_>>());
}
