//! `bench-peers burn` and `bench-peers candle`: optimizers of other Rust frameworks behind the protocol of the suite.

mod burn;
mod candle;
// The files are shared by path: a dependency on the suite's package would add all our dependencies to the lock file
// of the peers.
#[path = "../../src/protocol.rs"]
#[expect(dead_code, reason = "the side of the suite is not used")]
mod protocol;
#[path = "../../src/random.rs"]
mod random;

use std::io::{stdin, stdout};

use anyhow::bail;
use protocol::{Offer, serve};

fn main() -> anyhow::Result<()> {
    let (input, output) = (stdin().lock(), stdout().lock());
    match std::env::args().nth(1).as_deref() {
        Some("burn") => serve(burn::hello(), burn::open, input, output),
        Some("candle") => serve(candle::hello(), candle::open, input, output),
        other => bail!("which peer? `burn` or `candle`, not {other:?}"),
    }
}

/// Offers made of `(id, rule, name)`.
fn offers(entries: &[(&str, &str, &str)]) -> Vec<Offer> {
    let offer = |&(id, rule, name): &(&str, &str, &str)| Offer {
        id: id.to_owned(),
        rule: rule.to_owned(),
        name: name.to_owned(),
        max_tensors: None,
    };
    entries.iter().map(offer).collect()
}
