//! What the rules of these tests have in common.

/// The part of [`UpdateRule`](opt_core::UpdateRule) that is about configurations and the learning rate, for rules with
/// nothing to configure.
macro_rules! nothing_to_configure {
    ($class_name:literal, $learning_rate:tt) => {
        fn class_name(&self) -> &str {
            $class_name
        }
        fn learning_rate(&self) -> &LearningRate {
            &self.$learning_rate
        }
        fn learning_rate_mut(&mut self) -> &mut LearningRate {
            &mut self.$learning_rate
        }
        fn validate(&self) -> Result<(), opt_core::HyperparameterError> {
            Ok(())
        }
        fn config(&self) -> Result<opt_core::Config, opt_core::ConfigError> {
            Ok(opt_core::config([]))
        }
    };
}
