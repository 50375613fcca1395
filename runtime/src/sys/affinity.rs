//! On which processors a thread may run.

use std::io;
use std::mem;

use super::check;

/// A set of processors.
#[derive(Clone, Copy)]
pub(crate) struct Processors(libc::cpu_set_t);

impl Processors {
    /// Those on which the calling thread may run.
    ///
    /// # Errors
    ///
    /// `InvalidInput` of the kernel on a machine with more than 1,024 of them, which the set has no room for.
    pub(crate) fn of_this_thread() -> io::Result<Self> {
        // SAFETY: a set is an array of integers, for which zeroes are valid.
        let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
        // SAFETY: the pointer is to as many octets as the length says; zero is the calling thread.
        check(unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) })?;
        Ok(Self(set))
    }

    /// Their numbers, in ascending order.
    pub(crate) fn numbers(&self) -> Vec<usize> {
        // SAFETY: the numbers are below the size of a set.
        (0..libc::CPU_SETSIZE as usize).filter(|&number| unsafe { libc::CPU_ISSET(number, &self.0) }).collect()
    }

    /// One of them alone.
    pub(crate) fn only(number: usize) -> Self {
        assert!(number < libc::CPU_SETSIZE as usize, "a set has no room for processor {number}");
        // SAFETY: as in `of_this_thread`.
        let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
        // SAFETY: the number is below the size of the set.
        unsafe { libc::CPU_SET(number, &mut set) };
        Self(set)
    }

    /// Keeps the calling thread, and those that it starts from now on, to these.
    ///
    /// # Errors
    ///
    /// The system's: none of them is there, or allowed to the process.
    pub(crate) fn confine(&self) -> io::Result<()> {
        // SAFETY: as in `of_this_thread`.
        check(unsafe { libc::sched_setaffinity(0, size_of_val(&self.0), &raw const self.0) }).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_kept_to_one_processor_and_let_go() {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let all = Processors::of_this_thread().expect("a mask");
                for number in all.numbers() {
                    Processors::only(number).confine().expect("it is ours");
                    assert_eq!(Processors::of_this_thread().expect("a mask").numbers(), [number]);
                }
                all.confine().expect("they are ours");
                assert_eq!(Processors::of_this_thread().expect("a mask").numbers(), all.numbers());
            });
        });
    }

    #[test]
    fn a_processor_that_is_not_there_is_refused() {
        let last = libc::CPU_SETSIZE as usize - 1;
        assert_eq!(Processors::only(last).confine().map_err(|error| error.kind()), Err(io::ErrorKind::InvalidInput));
    }
}
