//! What the rules of these tests have in common.

/// Hyperparameters of rules with nothing to configure but a learning rate, which is not written.
macro_rules! nothing_to_configure {
    ($rule:ty, $learning_rate:tt) => {
        impl opt_core::config::Configurable for $rule {
            fn class_name(&self) -> &str {
                stringify!($rule)
            }
            fn config(&self) -> Result<opt_core::config::Config, opt_core::config::ConfigError> {
                Ok(opt_core::config::Config::new())
            }
        }

        impl opt_core::config::Hyperparameters for $rule {
            fn learning_rate(&self) -> &Hyper {
                &self.$learning_rate
            }
            fn learning_rate_mut(&mut self) -> &mut Hyper {
                &mut self.$learning_rate
            }
        }
    };
}
