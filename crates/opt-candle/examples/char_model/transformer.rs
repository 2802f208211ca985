//! A transformer that predicts the next token, with norms before each layer.

use candle_core::{D, DType, Module, Result, Tensor};
use candle_nn::{Embedding, Linear, RmsNorm, VarBuilder, embedding, linear, linear_no_bias, ops, rms_norm};

/// Tokens of a text.
pub(crate) const CONTEXT: usize = 64;

const LAYERS: usize = 2;
const HEADS: usize = 4;
const WIDTH: usize = 64;
const EPSILON: f64 = 1e-5;

/// The whole model.
pub(crate) struct Transformer {
    tokens: Embedding,
    positions: Tensor,
    layers: Vec<Layer>,
    norm: RmsNorm,
    output: Linear,
    /// 0 where a token may look, minus infinity at later tokens.
    mask: Tensor,
}

impl Transformer {
    pub(crate) fn new(vocabulary: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let layers = (0..LAYERS).map(|layer| Layer::new(&vb.pp(format!("layers.{layer}"))));
        Ok(Self {
            tokens: embedding(vocabulary, WIDTH, vb.pp("tokens"))?,
            positions: vb.get((CONTEXT, WIDTH), "positions.weight")?,
            layers: layers.collect::<Result<_>>()?,
            norm: rms_norm(WIDTH, EPSILON, vb.pp("norm"))?,
            output: linear_no_bias(WIDTH, vocabulary, vb.pp("output"))?,
            mask: causal_mask(vb)?,
        })
    }

    /// What comes after each token: logits of shape `[texts, tokens, vocabulary]`.
    pub(crate) fn forward(&self, texts: &Tensor) -> Result<Tensor> {
        let len = texts.dim(1)?;
        let mask = self.mask.narrow(0, 0, len)?.narrow(1, 0, len)?;
        let mut x = self.tokens.forward(texts)?.broadcast_add(&self.positions.narrow(0, 0, len)?)?;
        for layer in &self.layers {
            x = layer.forward(&x, &mask)?;
        }
        self.output.forward(&self.norm.forward_diff(&x)?)
    }
}

fn causal_mask(vb: &VarBuilder<'_>) -> Result<Tensor> {
    let later = |i: usize| if i % CONTEXT > i / CONTEXT { f32::NEG_INFINITY } else { 0.0 };
    let mask: Vec<f32> = (0..CONTEXT * CONTEXT).map(later).collect();
    Tensor::from_vec(mask, (CONTEXT, CONTEXT), vb.device())?.to_dtype(DType::F32)
}

/// Attention, then two linear layers.
struct Layer {
    attention_norm: RmsNorm,
    /// Queries, keys and values.
    inputs: Linear,
    output: Linear,
    norm: RmsNorm,
    up: Linear,
    down: Linear,
}

impl Layer {
    fn new(vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            attention_norm: rms_norm(WIDTH, EPSILON, vb.pp("attention_norm"))?,
            inputs: linear_no_bias(WIDTH, 3 * WIDTH, vb.pp("attention_inputs"))?,
            output: linear_no_bias(WIDTH, WIDTH, vb.pp("attention_output"))?,
            norm: rms_norm(WIDTH, EPSILON, vb.pp("norm"))?,
            up: linear(WIDTH, 4 * WIDTH, vb.pp("up"))?,
            down: linear(4 * WIDTH, WIDTH, vb.pp("down"))?,
        })
    }

    /// The norms are called by `forward_diff`: the `forward` of candle's norms has no gradient.
    fn forward(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let x = (x + self.attend(&self.attention_norm.forward_diff(x)?, mask)?)?;
        let hidden = self.up.forward(&self.norm.forward_diff(&x)?)?.gelu()?;
        x + self.down.forward(&hidden)?
    }

    fn attend(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let (texts, len, _) = x.dims3()?;
        let inputs = self.inputs.forward(x)?;
        let heads = |which: usize| {
            let input = inputs.narrow(D::Minus1, which * WIDTH, WIDTH)?;
            input.reshape((texts, len, HEADS, WIDTH / HEADS))?.transpose(1, 2)?.contiguous()
        };
        let (queries, keys, values) = (heads(0)?, heads(1)?, heads(2)?);
        let scores = (queries.matmul(&keys.t()?)? / ((WIDTH / HEADS) as f64).sqrt())?;
        let weights = ops::softmax(&scores.broadcast_add(mask)?, D::Minus1)?;
        self.output.forward(&weights.matmul(&values)?.transpose(1, 2)?.reshape((texts, len, WIDTH))?)
    }
}
