//! Hosts of a simulation, and a network that falls apart between them and is made whole again.

use std::time::Duration;

use weald_runtime::sim::{self, LinkConfig, NetworkConfig, Node, Simulation};
use weald_runtime::time::Instant;

/// Runs `f` in a simulation in which every link is as bad as `link` says.
pub fn simulate<T>(seed: u64, link: LinkConfig, f: impl FnOnce() -> T) -> T {
    Simulation::new(seed).network(NetworkConfig { link, ..NetworkConfig::default() }).run(f)
}

/// Starts a node with one address.
///
/// # Panics
///
/// If it is no address; as [`sim::NodeBuilder::start`].
#[must_use]
pub fn host(name: &str, address: &str) -> Node {
    sim::node(name).address(address.parse().expect("an address")).start()
}

/// Cuts `one` off from `others` when `apart` has passed, until `whole` has.
///
/// # Panics
///
/// Outside of a simulation.
pub fn partition(one: &Node, others: &[&Node], apart: Duration, whole: Duration) {
    let network = sim::network().expect("in a simulation");
    let groups = [one.addresses().to_vec(), others.iter().map(|node| node.address()).collect()];
    network.schedule(Instant::now() + apart, move |network| network.partition(groups));
    network.schedule(Instant::now() + whole, |network| network.heal());
}
