//! What bulk transfers get of a link, beside quinn-proto on the same path: the short form of the command `goodput`.

use std::time::Duration;

use weald_quic::Algorithm;
use weald_tests::reference::{Pairing, Path, STACKS, Tuning, goodput, pairings};

const CONTROLLERS: [Algorithm; 2] = [Algorithm::NewReno, Algorithm::Cubic];

/// 100 Mbit/s.
const RATE: u64 = 12_500_000;

/// The mean of so many seeds, of so many seconds each.
fn measure(path: &Path, controller: Algorithm, pairing: Pairing, seeds: u64, seconds: u64) -> f64 {
    let tuning = Tuning { controller, window: 4 << 20 };
    let span = Duration::from_secs(seconds);
    (1..=seeds).map(|seed| goodput(seed, path, &tuning, pairing, span)).sum::<f64>() / seeds as f64
}

fn alone(stack: usize) -> Pairing {
    Pairing { sender: STACKS[stack], receiver: STACKS[stack], upload: false }
}

#[test]
fn a_link_without_loss_is_filled() {
    let path = Path { rtt: Duration::from_millis(20), loss: 0.0, rate: RATE };
    for controller in CONTROLLERS {
        for pairing in pairings(false).chain(pairings(true)) {
            let bytes = measure(&path, controller, pairing, 1, 5);
            assert!(bytes > 0.9 * RATE as f64, "{controller:?}, {pairing}: {bytes} of {RATE} bytes a second");
        }
    }
}

#[test]
fn a_lossy_link_gives_us_what_it_gives_the_reference() {
    let path = Path { rtt: Duration::from_millis(20), loss: 0.01, rate: RATE };
    for controller in CONTROLLERS {
        // So many seeds, for one alone is off by a tenth.
        let [ours, theirs] = [0, 1].map(|stack| measure(&path, controller, alone(stack), 40, 10));
        assert!(ours >= 0.95 * theirs, "{controller:?}: {ours} and {theirs} bytes a second");
    }
}

#[test]
fn a_seed_gives_the_same_transfer_again() {
    let path = Path { rtt: Duration::from_millis(20), loss: 0.01, rate: RATE };
    for pairing in pairings(false) {
        let [first, second] = [(); 2].map(|()| measure(&path, Algorithm::Cubic, pairing, 1, 5));
        assert_eq!(first.to_bits(), second.to_bits(), "{pairing}");
    }
}
