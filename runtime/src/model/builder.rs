//! The builder of a coroutine in a model: of its settings a token alone shows.

use super::cancel::{self, CancellationToken};
use super::{JoinHandle, Scope, ScopedJoinHandle};

/// What a coroutine is to have.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Builder {
    tokens: Vec<CancellationToken>,
}

impl Builder {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Threads of a model have no names.
    pub fn name(self, _name: impl Into<String>) -> Self {
        self
    }

    /// Loom chooses the stacks.
    pub fn stack_size(self, _bytes: usize) -> Self {
        self
    }

    /// The coroutine is inside of this token.
    pub fn cancellation(mut self, token: CancellationToken) -> Self {
        self.tokens = vec![token];
        self
    }

    /// As [`spawn`](super::spawn).
    #[track_caller]
    pub fn spawn<F, T>(self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.spawn_local(f)
    }

    /// As [`spawn`](Self::spawn).
    #[track_caller]
    pub fn spawn_on<F, T>(self, _worker: usize, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.spawn_local(f)
    }

    /// As [`spawn`](Self::spawn).
    #[track_caller]
    pub fn spawn_local<F, T>(self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        super::spawn_local(move || cancel::run_inside(&self.tokens, f))
    }

    /// Spawns into a scope.
    pub fn spawn_scoped<'scope, F, T>(self, scope: &'scope Scope<'scope, '_>, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        scope.spawn(move || cancel::run_inside(&self.tokens, f))
    }
}
