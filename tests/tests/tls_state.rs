//! TLS leaves nothing behind: not in a connection whose handshake is confirmed, and not after its end.

use weald_tests::heap;
use weald_tests::tls_state::{Stage, measure};

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

#[test]
fn handshakes_leave_no_state_of_tls_behind() {
    let account = measure(500, 50, false, |_| {});
    assert_eq!(account.complaint(), None, "{account:?}");
    // The account sees TLS while it is there, and each connection's own end.
    let [answered, half, confirmed, quiet] =
        [Stage::Answered, Stage::HalfComplete, Stage::Confirmed, Stage::Quiet].map(|stage| account.at(stage));
    assert!(answered.server > confirmed.server + 4000.0 && half.client > confirmed.client + 4000.0, "{account:?}");
    assert!(quiet.server <= confirmed.server && quiet.client <= confirmed.client, "{account:?}");
    assert!(quiet.server > 1000.0 && quiet.client > 1000.0, "{account:?}");
}
