//! Clipping of gradients: by value, by norm, by global norm.

use crate::config::{HyperparameterError, require};
use crate::error::Error;

/// Limits on gradients; each is a positive number.
///
/// They apply in this order: by value, by the norm of each variable's gradient, by the norm of all gradients together.
/// The optimizer's builder accepts only one of them, as Keras does since 2.11; only legacy configurations combine them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Clip {
    pub(crate) value: Option<f64>,
    pub(crate) norm: Option<f64>,
    pub(crate) global_norm: Option<f64>,
}

impl Clip {
    pub(crate) fn validate(&self) -> Result<(), HyperparameterError> {
        for (name, limit) in self.named() {
            if let Some(limit) = limit {
                require(name, limit, f64::MIN_POSITIVE..)
                    .map_err(|error| HyperparameterError { expected: "a number above 0".to_owned(), ..error })?;
            }
        }
        Ok(())
    }

    /// Refuses more than one limit.
    pub(crate) fn validate_single(&self) -> Result<(), Error> {
        let mut set = self.named().into_iter().filter(|(_, limit)| limit.is_some());
        match (set.next(), set.next()) {
            (Some((first, _)), Some((second, _))) => Err(Error::Conflict { first, second }),
            _ => Ok(()),
        }
    }

    pub(crate) fn named(&self) -> [(&'static str, Option<f64>); 3] {
        [("clipnorm", self.norm), ("global_clipnorm", self.global_norm), ("clipvalue", self.value)]
    }
}

/// The factor that scales a norm down to a limit: `limit / max(norm, limit)`; NaN for a norm of NaN.
pub(crate) fn clip_factor(norm: f64, limit: f64) -> f64 {
    if norm <= limit { 1.0 } else { limit / norm }
}

/// As [`clip_factor`], but NaN also for an infinite norm, as in Keras: the direction of such a gradient is unknown.
pub(crate) fn global_clip_factor(norm: f64, limit: f64) -> f64 {
    if norm.is_finite() { clip_factor(norm, limit) } else { f64::NAN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors() {
        assert_eq!(clip_factor(0.0, 2.0), 1.0);
        assert_eq!(clip_factor(8.0, 2.0), 0.25);
        assert_eq!(clip_factor(f64::INFINITY, 2.0), 0.0);
        assert!(clip_factor(f64::NAN, 2.0).is_nan());
        assert!(global_clip_factor(f64::INFINITY, 2.0).is_nan());
        assert!(global_clip_factor(f64::NAN, 2.0).is_nan());
    }

    #[test]
    fn limits_are_above_zero() {
        for limit in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let clip = Clip { value: Some(limit), ..Clip::default() };
            assert_eq!(clip.validate().unwrap_err().name, "clipvalue");
        }
    }
}
