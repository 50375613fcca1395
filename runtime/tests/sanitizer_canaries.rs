//! Deliberate faults that a sanitizer must report: `tests/sanitizers/run.sh` runs each by its name and fails if it goes unnoticed.
//!
//! Each is built only for the tools that are to find it, and ignored in their suites. All but the race happen on the stack of a
//! coroutine that has been left and returned to several times, with another one beside it.
#![cfg(any(weald_asan, weald_tsan, miri))]

use std::hint::black_box;

#[cfg(any(weald_asan, miri))]
use weald_runtime::spawn;
#[cfg(any(weald_tsan, miri))]
use weald_runtime::spawn_on;
use weald_runtime::{Runtime, yield_now};

#[cfg(any(weald_asan, miri))]
fn switches() {
    (0..3).for_each(|_| yield_now());
}

#[cfg(any(weald_asan, miri))]
fn in_a_coroutine_after_switches<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    Runtime::builder().workers(1).build().expect("a runtime").run(move || {
        let beside = spawn(switches);
        let faulty = spawn(move || {
            switches();
            f()
        });
        beside.join().expect("no panic");
        faulty.join().expect("no panic")
    })
}

/// The report says on whose stack only if the tool was told of the switches.
#[cfg(weald_asan)]
#[test]
#[ignore = "a deliberate fault"]
fn stack_buffer_overflow() {
    in_a_coroutine_after_switches(|| {
        let mut buffer = [0_u8; 32];
        yield_now();
        let end = black_box(buffer.as_mut_ptr()).wrapping_add(black_box(buffer.len()));
        // SAFETY: none: it writes behind the buffer, as the test wants.
        unsafe { end.write_volatile(1) };
        black_box(buffer)[0]
    });
}

#[cfg(weald_asan)]
#[test]
#[ignore = "a deliberate fault"]
fn stack_use_after_return() {
    #[inline(never)]
    fn dangling() -> *mut u8 {
        let mut local = [7_u8; 32];
        opaque(&mut local)
    }
    // Not within `dangling`: the tool leaves frames with inline assembly, which this is, on the stack.
    #[inline(never)]
    fn opaque(local: &mut [u8; 32]) -> *mut u8 {
        black_box(local.as_mut_ptr())
    }
    in_a_coroutine_after_switches(|| {
        let pointer = dangling();
        switches();
        // SAFETY: none: the local is gone, as the test wants.
        unsafe { pointer.read_volatile() }
    });
}

#[cfg(weald_asan)]
#[test]
#[ignore = "a deliberate fault"]
fn stack_use_after_scope() {
    in_a_coroutine_after_switches(|| {
        let pointer;
        {
            let mut local = [7_u8; 32];
            pointer = black_box(local.as_mut_ptr());
        }
        switches();
        // SAFETY: none: the local is gone, as the test wants.
        unsafe { pointer.read_volatile() }
    });
}

#[cfg(any(weald_asan, miri))]
#[test]
#[ignore = "a deliberate fault"]
fn heap_use_after_free() {
    in_a_coroutine_after_switches(|| {
        let pointer = Box::into_raw(Box::new(7_u64));
        // SAFETY: made by `into_raw` above.
        drop(unsafe { Box::from_raw(black_box(pointer)) });
        switches();
        // SAFETY: none: it is freed, as the test wants.
        unsafe { pointer.read_volatile() }
    });
}

/// What another coroutine lent it, which has ended since.
#[cfg(any(weald_asan, miri))]
#[test]
#[ignore = "a deliberate fault"]
fn use_of_an_ended_coroutines_heap() {
    use std::sync::atomic::{AtomicPtr, Ordering};

    in_a_coroutine_after_switches(|| {
        static LENT: AtomicPtr<u64> = AtomicPtr::new(std::ptr::null_mut());
        let lender = spawn(|| {
            let mut owned = Box::new(7_u64);
            LENT.store(&raw mut *owned, Ordering::Release);
            switches();
            drop(black_box(owned));
        });
        lender.join().expect("no panic");
        // SAFETY: none: its owner has ended, as the test wants.
        unsafe { LENT.load(Ordering::Acquire).read_volatile() }
    });
}

/// The kernel writes behind it: the tool is asked before, and by libc's functions only.
#[cfg(weald_asan)]
#[test]
#[ignore = "a deliberate fault"]
fn receive_behind_a_buffer() {
    use weald_runtime::net::UdpSocket;

    in_a_coroutine_after_switches(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.send_to(&[7; 64], socket.local_addr().expect("its address")).expect("sent");
        let mut buffer = vec![0_u8; 32];
        // SAFETY: none: it is not that long, as the test wants.
        let longer = unsafe { std::slice::from_raw_parts_mut(black_box(buffer.as_mut_ptr()), 64) };
        socket.recv_from(longer).expect("received").0
    });
}

#[cfg(weald_asan)]
#[test]
#[ignore = "a deliberate fault"]
fn leak() {
    in_a_coroutine_after_switches(|| {
        std::mem::forget(black_box(Box::new([7_u64; 5])));
        switches();
    });
}

#[cfg(any(weald_tsan, miri))]
#[test]
#[ignore = "a deliberate fault"]
fn data_race() {
    static mut COUNTER: u64 = 0;
    fn add() {
        for _ in 0..if cfg!(miri) { 20 } else { 1_000 } {
            // SAFETY: none: two workers write at once, as the test wants.
            unsafe { (&raw mut COUNTER).write((&raw const COUNTER).read() + 1) };
            yield_now();
        }
    }
    Runtime::builder().workers(2).build().expect("a runtime").run(|| {
        let coroutines = [spawn_on(0, add), spawn_on(1, add)];
        coroutines.into_iter().for_each(|coroutine| coroutine.join().expect("no panic"));
    });
    // SAFETY: both have ended.
    black_box(unsafe { (&raw const COUNTER).read() });
}
