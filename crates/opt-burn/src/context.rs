//! What a parameter's tensor carries besides its numbers.

use burn_core::module::ParamId;
use burn_core::tensor::{GradientCheckpointingStrategy, Tensor};

/// The autodiff state of a parameter. It is taken before the numbers are updated outside of autodiff, and put onto the
/// updated tensor. burn's own optimizers do the same.
#[derive(Debug)]
pub(crate) struct Context {
    /// `None` without autodiff.
    checkpointing: Option<GradientCheckpointingStrategy>,
    require_grad: bool,
    distributed: bool,
}

impl Context {
    pub(crate) fn of<const D: usize>(tensor: &Tensor<D>) -> Self {
        let checkpointing = tensor.gradient_checkpointing_strategy();
        // burn panics where these are asked of a tensor without autodiff.
        let has_autodiff = checkpointing.is_some();
        Self {
            checkpointing,
            require_grad: has_autodiff && tensor.is_require_grad(),
            distributed: has_autodiff && tensor.is_distributed(),
        }
    }

    /// A tensor without autodiff, with this state.
    pub(crate) fn restore<const D: usize>(&self, tensor: Tensor<D>, id: ParamId) -> Tensor<D> {
        let Some(strategy) = self.checkpointing else { return tensor };
        let mut tensor = Tensor::from_inner(tensor).with_gradient_checkpointing_strategy(strategy);
        if self.require_grad {
            tensor = tensor.require_grad();
        }
        if self.distributed {
            tensor = tensor.set_distributed(id);
        }
        tensor
    }
}
