//! What a distribution need not say.

use std::sync::Arc;

use opt_core::collective::{Collective, CollectiveError, Distribution, Placement};

/// What has to be said is not asked for here.
#[derive(Debug)]
pub(super) struct Plain;

impl Distribution for Plain {
    fn world(&self) -> &dyn Collective {
        unreachable!("nobody asks for the ranks")
    }
    fn placement(&self, variable: &str, _shape: &[usize]) -> Result<Arc<Placement>, CollectiveError> {
        unreachable!("nobody asks how {variable} lies")
    }
}

#[test]
fn defaults_are_the_ones_that_cannot_go_wrong() {
    let says = |ranks: &dyn Distribution| (ranks.shards_state(), ranks.overlaps(), ranks.bucket_bytes());
    assert_eq!(says(&Plain), (false, false, 26_214_400));
    assert_eq!(says(&Arc::new(Plain)), says(&Plain));
}
