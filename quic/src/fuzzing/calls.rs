//! Two applications that call anything at any time, over a network that loses, repeats, reorders and corrupts. Both ends are honest: so
//! neither ever finds fault with the other, and what goes in at one end comes out at the other, all of it once the network is well.

use std::time::Duration;

use super::application::Application;
use super::bounds;
use super::script::Script;
use super::{END, check_end, small};
use crate::connection::tests::pair::{Network, Pair};
use crate::error::{ConnectionError, TransportErrorCode};
use crate::side::Side;

/// Calls of a script at most.
const CALLS: usize = 200;
/// All that was written arrives in this time over a network that is well, in windows of a few kilobytes. Less than the idle timeout after
/// what a script can do.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a script. Its first byte says what the network does, the second is a seed.
pub fn calls(input: &[u8]) {
    let mut script = Script::new(input);
    let faults = script.u8();
    let percent = |shift: u8| u32::from(faults >> shift & 3) * 7;
    let network = Network { loss: percent(0), reorder: percent(2), duplicate: percent(4), corrupt: percent(6), ..Network::CLEAN };
    let mut pair = Pair::with(script.u8().into(), network, small(), small(), 0);
    let mut applications = [Application::new(Side::Client, true), Application::new(Side::Server, true)];
    // The largest congestion windows so far.
    let mut windows = [0; 2];
    (pair.client.deaf, pair.server.deaf) = (true, true);
    pair.server.lets_one_in = true;
    for _ in 0..CALLS {
        if script.is_over() {
            break;
        }
        let verb = script.u8();
        if verb.is_multiple_of(4) {
            let amount = u64::from(script.u8());
            pair.run(Duration::from_millis(amount * [1, 1, 8, 80][usize::from(verb >> 2 & 3)]), |_| false);
        } else {
            let now = pair.now;
            let [client, server] = &mut applications;
            let (node, application) = if verb & 4 == 0 { (&mut pair.client, client) } else { (&mut pair.server, server) };
            application.call(node, now, &mut script);
        }
        check(&mut pair, &mut applications, &mut windows);
    }
    pair.network = Network::CLEAN;
    let now = pair.now;
    let [client, server] = &mut applications;
    client.behave(&mut pair.client, now);
    server.behave(&mut pair.server, now);
    let arrived = pair.run(PATIENCE, |pair| {
        client.work(&mut pair.client);
        server.work(&mut pair.server);
        let is_over = pair.client.closed.is_some() || pair.server.closed.is_some();
        is_over || pair.server.connected && client.compare(server) && server.compare(client)
    });
    let closed = (&pair.client.closed, &pair.server.closed);
    assert!(arrived, "something does not arrive: {:?} {:?} {closed:?}", client.streams, server.streams);
    pair.run(END, |pair| pair.client.dropped && pair.server.dropped);
    check(&mut pair, &mut applications, &mut windows);
    check_end(&pair);
}

fn check(pair: &mut Pair, applications: &mut [Application; 2], windows: &mut [u64; 2]) {
    pair.flush();
    let may_close = applications.iter().any(|application| application.closes);
    for (application, window) in applications.iter_mut().zip(windows) {
        let node = if application.side().is_client() { &mut pair.client } else { &mut pair.server };
        application.work(node);
        if let Some((_, connection)) = &node.connection {
            *window = connection.stats().congestion_window.max(*window);
            bounds::check(connection, &small(), application.extent(*window));
        }
        match &node.closed {
            // Who is gone resets what still comes.
            None | Some(ConnectionError::TimedOut | ConnectionError::Reset) => {}
            Some(ConnectionError::LocallyClosed | ConnectionError::ApplicationClosed(_)) if may_close => {}
            // RFC 9000 10.2.3: that is all that may be said of it before the handshake is complete.
            Some(ConnectionError::ConnectionClosed(close)) if may_close && close.code == TransportErrorCode::APPLICATION_ERROR => {}
            Some(error) => panic!("an honest end was found fault with: {error}"),
        }
    }
    let [client, server] = applications;
    client.compare(server);
    server.compare(client);
    pair.flush();
    super::check(pair);
}

#[cfg(test)]
mod tests {
    #[test]
    fn applications_may_call_anything() {
        super::super::random_scripts(0..400, super::calls);
    }
}
