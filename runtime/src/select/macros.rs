//! The syntax of `select!`, and nothing else: arms become a list of pairs, bodies the arms of a `match`.

/// Waits for several things at once, and goes on with the first that happens.
///
/// The arms' words:
///
/// - `recv(receiver) -> result => body`: a message of a channel or a `oneshot`, as `Result<T, RecvError>`. Also of
///   [`after`](crate::channel::after), [`at`](crate::channel::at), [`tick`](crate::channel::tick).
/// - `send(sender, message) -> result => body`: `Result<(), SendError<T>>`.
/// - `wait(selectable) -> output => body`: anything [`Selectable`](crate::select::Selectable), see below.
/// - `default => body`: if no other arm is ready at once. The macro does not wait then.
/// - `default(timeout) => body`: if no other arm is ready before the time, a [`Duration`](std::time::Duration), is over; or
///   `default(deadline) => body`, before an [`Instant`](crate::time::Instant) has come.
///
/// What can be waited for:
///
/// | in `wait(..)` | is chosen when | output |
/// |-|-|-|
/// | [`receiver.receiving()`](crate::channel::Receiver::receiving), the long form of `recv` | there is a message, or no sender | `Result<T, RecvError>` |
/// | [`sender.sending(message)`](crate::channel::Sender::sending), the long form of `send` | there is room, or no receiver | `Result<(), SendError<T>>` |
/// | [`sender.sending_from(&mut option)`](crate::channel::Sender::sending_from) | the same, and there is a message | `Result<(), SendError<()>>` |
/// | [`receiver.receiving()`](crate::channel::oneshot::Receiver::receiving) of a `oneshot` | the value is there, or never will be | `Result<T, RecvError>` |
/// | a [`&mut JoinHandle`](crate::JoinHandle) | the coroutine has ended | `()` |
/// | a [`&CancellationToken`](crate::CancellationToken) | it is cancelled | `Result<(), Cancelled>`: the error says that the caller is |
/// | [`listener.accepting()`](crate::net::TcpListener::accepting) | a connection is accepted | `io::Result<(TcpStream, SocketAddr)>` |
/// | [`stream.reading(&mut buffer)`](crate::net::TcpStream::reading) | bytes, or the end, are read | `io::Result<usize>` |
/// | [`stream.readable()`](crate::net::TcpStream::readable) | there are bytes to read, or the end | `io::Result<()>` |
/// | [`stream.writing(&bytes)`](crate::net::TcpStream::writing) | some of the bytes are written | `io::Result<usize>` |
/// | [`socket.receiving_from(&mut buffer)`](crate::net::UdpSocket::receiving_from) | a datagram is received | `io::Result<(usize, SocketAddr)>` |
/// | [`socket.receiving_batch(&mut batch)`](crate::net::UdpSocket::receiving_batch) | datagrams are received | `io::Result<usize>` |
/// | [`signals.receiving()`](crate::signal::Signals::receiving) | a signal has come | `io::Result<i32>` |
/// | anything with [`Readiness`](crate::select::Readiness) | its `attempt` gives something | what it gives |
///
/// `break`, `continue`, `return` and `?` in a body concern the code around the macro. The whole is an expression, of its
/// bodies' type.
///
/// Exactly one arm is chosen: a random one of those that are ready (drawn by the worker's generator, so that a simulation
/// repeats it), or else the first that becomes so. The others have had no effect: no message is taken but the one that is given.
///
/// ```
/// use std::time::Duration;
/// use weald_runtime::{channel::{self, after}, select};
///
/// let (jobs, inbox) = channel::bounded(16);
/// let (results, outbox) = channel::bounded(16);
/// jobs.send(20).unwrap();
/// let give_up = after(Duration::from_secs(10));
/// let mut done = None;
/// loop {
///     select! {
///         recv(inbox) -> job => done = job.ok().map(|number: u32| number + 1),
///         wait(results.sending_from(&mut done)) -> sent => {
///             sent.unwrap();
///             break;
///         }
///         recv(give_up) -> _ => break,
///     }
/// }
/// assert_eq!(outbox.recv(), Ok(21));
/// ```
///
/// # What differs from crossbeam
///
/// **A message is made before the wait**, not after the choice, since whoever receives may take it while this side is
/// parked; if another arm is chosen it is dropped. `send(tx, queue.pop_front().unwrap())` therefore loses messages; keep
/// them in an `Option` and use [`wait(tx.sending_from(&mut next))`](crate::channel::Sender::sending_from), which also leaves
/// the arm out while there is nothing to send.
///
/// # Cancellation
///
/// When the coroutine is cancelled while it waits, the first arm is chosen, whichever it is, with what its operation says then:
/// `Err(Cancelled)` from channels, an error with [`net::Cancelled`](crate::net::Cancelled) inside from sockets. With no arm but a `default` it is that one.
///
/// # Panics
///
/// If it would have to wait on a worker's own stack, as in a hook. With `default` it never waits.
///
/// # Compile errors
///
/// ```compile_fail
/// # let (_tx, rx) = weald_runtime::channel::unbounded::<u8>();
/// weald_runtime::select! { receive(rx) -> _ => {} } // unknown word
/// ```
/// ```compile_fail
/// # let (_tx, rx) = weald_runtime::channel::unbounded::<u8>();
/// weald_runtime::select! { recv(rx) => {} } // no `-> pattern`
/// ```
/// ```compile_fail
/// # let (_tx, rx) = weald_runtime::channel::unbounded::<u8>();
/// weald_runtime::select! { recv(rx) -> Ok(_) => {} } // the pattern does not cover errors
/// ```
/// ```compile_fail
/// weald_runtime::select! { default => {} default => {} } // two defaults
/// ```
#[macro_export]
macro_rules! select {
    () => {
        ::core::compile_error!("`select!` needs an arm: `recv(receiver) -> result => ..`, `send(sender, message) -> result => ..`, `wait(selectable) -> output => ..` or `default => ..`")
    };
    ($($tokens:tt)+) => {
        $crate::__select!(@parse [] [] $($tokens)+)
    };
}

/// `@parse [arms so far] [default so far] rest`; an arm is `{ (expression) (pattern) (body) }`, a default `{ (timeout or nothing) (body) }`.
#[doc(hidden)]
#[macro_export]
macro_rules! __select {
    // The end.
    (@parse [$($arm:tt)*] []) => {{
        let chosen = $crate::select::internal::select($crate::__select!(@list $($arm)*));
        $crate::__select!(@match chosen $($arm)*)
    }};
    (@parse [] [{ () $body:tt }]) => {
        $crate::__select!(@body $body)
    };
    (@parse [$($arm:tt)*] [{ () $body:tt }]) => {{
        let chosen = $crate::select::internal::try_select($crate::__select!(@list $($arm)*));
        match chosen {
            ::core::option::Option::Some(chosen) => $crate::__select!(@match chosen $($arm)*),
            ::core::option::Option::None => $crate::__select!(@body $body),
        }
    }};
    (@parse [$($arm:tt)*] [{ ($timeout:expr) $body:tt }]) => {{
        let limit = $crate::select::internal::TimeLimit::from($timeout);
        let chosen = $crate::select::internal::select_limited($crate::__select!(@list $($arm)*), limit);
        match chosen {
            ::core::option::Option::Some(chosen) => $crate::__select!(@match chosen $($arm)*),
            ::core::option::Option::None => $crate::__select!(@body $body),
        }
    }};

    // An arm's head.
    (@parse $arms:tt $default:tt recv($receiver:expr $(,)?) -> $pattern:pat => $($rest:tt)+) => {
        $crate::__select!(@arm $arms $default { ($receiver.receiving()) ($pattern) } $($rest)+)
    };
    (@parse $arms:tt $default:tt send($sender:expr, $message:expr $(,)?) -> $pattern:pat => $($rest:tt)+) => {
        $crate::__select!(@arm $arms $default { ($sender.sending($message)) ($pattern) } $($rest)+)
    };
    (@parse $arms:tt $default:tt wait($selectable:expr $(,)?) -> $pattern:pat => $($rest:tt)+) => {
        $crate::__select!(@arm $arms $default { ($selectable) ($pattern) } $($rest)+)
    };
    (@parse $arms:tt [] default => $($rest:tt)+) => {
        $crate::__select!(@default $arms () $($rest)+)
    };
    (@parse $arms:tt [] default() => $($rest:tt)+) => {
        $crate::__select!(@default $arms () $($rest)+)
    };
    (@parse $arms:tt [] default($timeout:expr $(,)?) => $($rest:tt)+) => {
        $crate::__select!(@default $arms ($timeout) $($rest)+)
    };

    // An arm's body: a block, or an expression and a comma unless it is the last.
    (@arm [$($arm:tt)*] $default:tt { $expression:tt $pattern:tt } $body:block $(, $($rest:tt)*)?) => {
        $crate::__select!(@parse [$($arm)* { $expression $pattern ($body) }] $default $($($rest)*)?)
    };
    (@arm [$($arm:tt)*] $default:tt { $expression:tt $pattern:tt } $body:block $($rest:tt)+) => {
        $crate::__select!(@parse [$($arm)* { $expression $pattern ($body) }] $default $($rest)+)
    };
    (@arm [$($arm:tt)*] $default:tt { $expression:tt $pattern:tt } $body:expr $(, $($rest:tt)*)?) => {
        $crate::__select!(@parse [$($arm)* { $expression $pattern ($body) }] $default $($($rest)*)?)
    };
    (@arm $arms:tt $default:tt $head:tt $($rest:tt)*) => {
        ::core::compile_error!("expected a comma after the body of an arm of `select!`")
    };
    (@default $arms:tt $timeout:tt $body:block $(, $($rest:tt)*)?) => {
        $crate::__select!(@parse $arms [{ $timeout ($body) }] $($($rest)*)?)
    };
    (@default $arms:tt $timeout:tt $body:block $($rest:tt)+) => {
        $crate::__select!(@parse $arms [{ $timeout ($body) }] $($rest)+)
    };
    (@default $arms:tt $timeout:tt $body:expr $(, $($rest:tt)*)?) => {
        $crate::__select!(@parse $arms [{ $timeout ($body) }] $($($rest)*)?)
    };
    (@default $arms:tt $timeout:tt $($rest:tt)*) => {
        ::core::compile_error!("expected a comma after the body of `default` in `select!`")
    };

    // What an arm can lack.
    (@parse $arms:tt [$default:tt] default $($rest:tt)*) => {
        ::core::compile_error!("`select!` has at most one `default`")
    };
    (@parse $arms:tt $default:tt default($($timeout:tt)*) $($rest:tt)*) => {
        ::core::compile_error!("expected `default => body` or `default(timeout) => body` in `select!`")
    };
    (@parse $arms:tt $default:tt default $($rest:tt)*) => {
        ::core::compile_error!("expected `=> body` after `default` in `select!`")
    };
    (@parse $arms:tt $default:tt recv($($argument:tt)*) $($rest:tt)*) => {
        ::core::compile_error!("expected `recv(receiver) -> result => body` in `select!`")
    };
    (@parse $arms:tt $default:tt send($($argument:tt)*) $($rest:tt)*) => {
        ::core::compile_error!("expected `send(sender, message) -> result => body` in `select!`")
    };
    (@parse $arms:tt $default:tt wait($($argument:tt)*) $($rest:tt)*) => {
        ::core::compile_error!("expected `wait(selectable) -> output => body` in `select!`")
    };
    (@parse $arms:tt $default:tt , $($rest:tt)*) => {
        ::core::compile_error!("unexpected comma in `select!`: an arm was expected")
    };
    (@parse $arms:tt $default:tt $word:tt $($rest:tt)*) => {
        ::core::compile_error!(::core::concat!("expected `recv(..)`, `send(..)`, `wait(..)` or `default` in `select!`, found `", ::core::stringify!($word), "`"))
    };

    (@list) => { () };
    (@list { ($expression:expr) $pattern:tt $body:tt } $($rest:tt)*) => {
        ($crate::select::Selectable::into_arm($expression), $crate::__select!(@list $($rest)*))
    };

    (@match $chosen:ident) => { match $chosen {} };
    // Without the last `Rest`, which has no values.
    (@match $chosen:ident { $expression:tt ($pattern:pat) $body:tt }) => {
        match $chosen {
            $crate::select::internal::Choice::First($pattern) => $crate::__select!(@body $body),
        }
    };
    (@match $chosen:ident { $expression:tt ($pattern:pat) $body:tt } $($rest:tt)+) => {
        match $chosen {
            $crate::select::internal::Choice::First($pattern) => $crate::__select!(@body $body),
            $crate::select::internal::Choice::Rest(chosen) => $crate::__select!(@match chosen $($rest)+),
        }
    };
    (@body ($body:expr)) => { $body };
}
