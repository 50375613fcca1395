//! The program by which the kernel picks the worker's socket: the steering octet's formula (`crate::endpoint`), in classic BPF.
//!
//! It reads the UDP payload. Short headers, and long headers of Handshake packets, name the worker in the last octet of
//! their destination id. For Initial and 0-RTT packets, whose ids clients make up, for other versions, and for ids of
//! another length the program returns a number that is no socket's, and the kernel hashes the addresses. A load past the end
//! of a datagram ends the program with socket 0, which drops what is so short.

use weald_runtime::net::FilterInstruction;

use crate::handle::{ID_LEN, SteeringKey};
use crate::wire::Version;

/// No socket's number.
const HASH: u32 = u32::MAX;

// linux/bpf_common.h: class, size or operation, mode or source.
const LOAD_WORD: u16 = 0x20;
const LOAD_BYTE: u16 = 0x30;
const MULTIPLY: u16 = 0x24;
const SHIFT_RIGHT: u16 = 0x74;
const XOR: u16 = 0xa4;
const XOR_X: u16 = 0xac;
const AND: u16 = 0x54;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_SET: u16 = 0x45;
const COPY_TO_X: u16 = 0x07;
const RETURN: u16 = 0x06;
const RETURN_A: u16 = 0x16;

/// The program for one endpoint's key.
pub(super) fn program(key: SteeringKey) -> Vec<FilterInstruction> {
    // RFC 9000 17.3.1: a short header is one octet, then the id.
    let short = pick(key, 1);
    // RFC 9000 17.2: octet, version, length of the id, then the id.
    let long = pick(key, 6);
    let mut program = vec![
        instruction(LOAD_BYTE, 0),
        // RFC 8999 5: the highest bit is set in long headers.
        jump(JUMP_IF_SET, 0x80, 0, 13),
        instruction(LOAD_WORD, 1),
        jump(JUMP_IF_EQUAL, Version::V1.as_u32(), 1, 0),
        jump(JUMP_IF_EQUAL, Version::V2.as_u32(), 3, 6),
        // RFC 9000 17.2: bits 0x30 are the type; 2 is Handshake.
        instruction(LOAD_BYTE, 0),
        instruction(AND, 0x30),
        jump(JUMP_IF_EQUAL, 0x20, 4, 3),
        // RFC 9369 3.2: 3 is Handshake.
        instruction(LOAD_BYTE, 0),
        instruction(AND, 0x30),
        jump(JUMP_IF_EQUAL, 0x30, 1, 0),
        instruction(RETURN, HASH),
        instruction(LOAD_BYTE, 5),
        jump(JUMP_IF_EQUAL, ID_LEN as u32, 1, 0),
        instruction(RETURN, HASH),
    ];
    // The jump above skips exactly these; then the long form, which returns.
    debug_assert_eq!(program.len(), 15);
    program[1].jump_false = 13 + u8::try_from(long.len()).expect("some thirty instructions");
    program.extend(long);
    program.extend(short);
    program
}

/// Returns the worker that the id at `at` names.
fn pick(key: SteeringKey, at: u32) -> Vec<FilterInstruction> {
    let [seed, multipliers @ ..] = key.words();
    let mut program = Vec::new();
    for (index, multiplier) in (0u32..).zip(multipliers) {
        // The sealed block begins behind the id's first octet.
        program.push(instruction(LOAD_WORD, at + 1 + 4 * index));
        program.push(if index == 0 { instruction(XOR, seed) } else { instruction(XOR_X, 0) });
        program.push(instruction(MULTIPLY, multiplier));
        // hash ^= hash >> 15
        program.push(instruction(COPY_TO_X, 0));
        program.push(instruction(SHIFT_RIGHT, 15));
        program.push(instruction(XOR_X, 0));
        program.push(instruction(COPY_TO_X, 0));
    }
    // X and A hold the hash. Its highest octet, XOR the id's last one, is the worker.
    program.push(instruction(SHIFT_RIGHT, 24));
    program.push(instruction(COPY_TO_X, 0));
    program.push(instruction(LOAD_BYTE, at + ID_LEN as u32 - 1));
    program.push(instruction(XOR_X, 0));
    program.push(instruction(RETURN_A, 0));
    program
}

fn instruction(code: u16, operand: u32) -> FilterInstruction {
    jump(code, operand, 0, 0)
}

fn jump(code: u16, operand: u32, jump_true: u8, jump_false: u8) -> FilterInstruction {
    FilterInstruction { code, jump_true, jump_false, operand }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use weald_runtime::net::{UdpSocket, UdpSocketOptions};

    use super::*;
    use crate::handle::{ConnectionHandle, EndpointKeys};

    /// What the kernel does with the program.
    fn run(program: &[FilterInstruction], packet: &[u8]) -> u32 {
        let (mut a, mut x) = (0u32, 0u32);
        let mut at = 0;
        loop {
            let FilterInstruction { code, jump_true, jump_false, operand: k } = program[at];
            at += 1;
            let offset = k as usize;
            let mut branch = |taken: bool| at += usize::from(if taken { jump_true } else { jump_false });
            match code {
                LOAD_WORD => match packet.get(offset..offset + 4) {
                    Some(word) => a = u32::from_be_bytes(word.try_into().unwrap()),
                    None => return 0,
                },
                LOAD_BYTE => match packet.get(offset) {
                    Some(byte) => a = (*byte).into(),
                    None => return 0,
                },
                MULTIPLY => a = a.wrapping_mul(k),
                SHIFT_RIGHT => a >>= k,
                XOR => a ^= k,
                XOR_X => a ^= x,
                AND => a &= k,
                JUMP_IF_EQUAL => branch(a == k),
                JUMP_IF_SET => branch(a & k != 0),
                COPY_TO_X => x = a,
                RETURN => return k,
                RETURN_A => return a,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    fn long(first: u8, version: u32, id: &[u8]) -> Vec<u8> {
        let mut packet = vec![first];
        packet.extend(version.to_be_bytes());
        packet.push(id.len() as u8);
        packet.extend(id);
        packet.extend([0; 40]);
        packet
    }

    #[test]
    fn our_ids_go_to_their_worker() {
        let mut rng = fastrand::Rng::with_seed(1);
        for boot in 0..20 {
            let keys = EndpointKeys::new(&[9; 32], boot, 0);
            let program = program(keys.steering());
            for _ in 0..200 {
                let worker = rng.u8(..);
                let handle = ConnectionHandle::new(rng.u32(..), rng.u32(..));
                let (_, id, _) = keys.issuer(worker, handle).issue().unwrap();
                let mut short = vec![0x40 | rng.u8(..0x40)];
                short.extend(id.as_slice());
                short.extend([1; 20]);
                assert_eq!(run(&program, &short), worker.into());
                for (handshake, version) in [(0xe0, Version::V1), (0xf0, Version::V2)] {
                    assert_eq!(run(&program, &long(handshake | rng.u8(..16), version.as_u32(), id.as_slice())), worker.into());
                }
            }
        }
    }

    #[test]
    fn made_up_ids_are_left_to_the_kernel() {
        let program = program(EndpointKeys::new(&[9; 32], 0, 0).steering());
        // RFC 9000 17.2: Initial, 0-RTT, Retry; RFC 9369 3.2: the same in version 2, which permutes the types.
        let types = [(Version::V1, [0xc0, 0xd0, 0xf0]), (Version::V2, [0xd0, 0xe0, 0xc0])];
        for (version, first) in types.into_iter().flat_map(|(version, types)| types.map(|first| (version, first))) {
            for low in [0, 15] {
                assert_eq!(run(&program, &long(first | low, version.as_u32(), &[1; 18])), HASH, "{first:#x} in {version}");
            }
        }
        assert_eq!(run(&program, &long(0xe0, 0x1a2a_3a4a, &[1; 18])), HASH);
        assert_eq!(run(&program, &long(0xe0, 1, &[1; 8])), HASH);
        assert_eq!(run(&program, &[0x40; 10]), 0);
        assert_eq!(run(&program, &[]), 0);
        assert!(program.len() < 256, "the kernel takes 4096, and jumps reach 255");
    }

    #[test]
    fn the_kernel_runs_the_program() {
        const WORKERS: u8 = 3;
        weald_runtime::run(|| {
            let options = UdpSocketOptions::default().reuse_port(true);
            let first = options.bind("127.0.0.1:0").unwrap();
            let address = first.local_addr().unwrap();
            let rest = (1..WORKERS).map(|_| options.bind(address).unwrap());
            let sockets: Vec<_> = std::iter::once(first).chain(rest).collect();
            for socket in &sockets {
                socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            }
            let keys = EndpointKeys::new(&[9; 32], 0, 0);
            sockets[0].attach_steering(&program(keys.steering())).unwrap();
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            for slot in 0..20 {
                for worker in 0..WORKERS {
                    let (_, id, _) = keys.issuer(worker, ConnectionHandle::new(slot, 0)).issue().unwrap();
                    let packet = [&[0x40], id.as_slice(), &[worker; 30]].concat();
                    sender.send_to(&packet, address).unwrap();
                    let mut buffer = [0; 100];
                    let (len, _) = sockets[usize::from(worker)].recv_from(&mut buffer).unwrap();
                    assert_eq!(buffer[..len], packet);
                }
            }
        });
    }
}
