//! Stacks that take a C compiler, as sides of `weald bench handshake`.

#[path = "../../src/process.rs"]
#[allow(dead_code, reason = "the benchmarks of the runtime use the rest")]
mod process;
#[path = "../../src/handshake/protocol.rs"]
#[allow(dead_code, reason = "the measurement uses the rest")]
mod protocol;
mod quiche_side;
#[path = "../../src/handshake/rustls_side.rs"]
#[allow(dead_code, reason = "the measurement uses the rest")]
mod rustls_side;
mod s2n_side;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let task = protocol::Task::decode(&arguments)?;
    protocol::tell(process::keep_behind(usize::from(task.port.is_some()), 1).and_then(|()| match task.stack.as_str() {
        "s2n-quic" => s2n_side::run(&task),
        "quiche" => quiche_side::run(&task),
        other => bail!("there is no stack \"{other}\" here"),
    }));
    Ok(())
}
