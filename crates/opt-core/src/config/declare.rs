//! `hyperparameters!`: declares each hyperparameter of a class once.

use super::{Config, ConfigError, Dialect, HyperparameterValue};

/// Declares a rule or a schedule by its hyperparameters, each of them once: type, default, range and meaning.
///
/// ```text
/// learning_rate: Hyper = 0.01, in 0.0.., "learning rate, eta";
/// name           type    default  range   meaning
/// ```
///
/// The struct, its defaults, the checks of the ranges, reading and writing of its configuration, and the tables and the
/// JSON Schema in the documents follow from the declaration. The types are those of
/// [`HyperparameterValue`](crate::config::HyperparameterValue); the meaning is a few words for the tables.
///
/// # Fields
///
/// | in a declaration | meaning |
/// |---|---|
/// | `/// Sets ...` above a field | a public method with the name of the field sets it, with this documentation |
/// | `#[required]` instead of a default | a configuration must have the field; required fields come first |
/// | `in 0.0..1.0` | the range; without it, any finite number. `in 1..` for whole numbers |
/// | `if Dialect::KerasLegacy` | only configurations of this [dialect](crate::config::Dialect) have the field |
/// | `unless default` | the field is written only if it is not the default of the dialect; for fields that Keras does not have |
/// | `#[dialect(Self::in_dialect)] dialect = Dialect::Keras;` | the first line, for a rule with several dialects: a field, and a function `fn(Dialect) -> Option<Self>` with the settings of each dialect |
///
/// # After the struct
///
/// First the class name: `rule "SGD"` or `schedule "CosineDecay"` (or `part "Lookahead"` for fields that a class adds
/// to those of the rule inside it). Then, in braces, any of these clauses:
///
/// | clause | meaning |
/// |---|---|
/// | `dialect: Dialect::KerasLegacy,` | the only dialect that the rule has, if not [`Dialect::Keras`](crate::config::Dialect::Keras) |
/// | `check: Self::check,` | a check of several fields together, after the ranges |
/// | `check_read: Self::check_read,` | the same, but only when the fields have been read from a configuration |
/// | `default_weight_decay: Self::decay,` | a function `fn(&Self) -> Option<f64>`: see [`Hyperparameters::default_weight_decay`](crate::config::Hyperparameters::default_weight_decay) |
///
/// Both checks are functions `fn(&Self) -> Result<(), HyperparameterError>`.
///
/// A rule must have a field `learning_rate: Hyper`. It also gets [`Default`], and its steps can be
/// [recorded](crate::trace) if it implements [`UpdateRule`](crate::UpdateRule) for every element type.
///
/// `Self::with_defaults(...)` is for constructors: it takes the required fields in their order, and sets all others to
/// their defaults.
///
/// # Examples
///
/// ```
/// use opt_core::{Hyper, Schedule, hyperparameters};
///
/// hyperparameters! {
///     /// Falls by a part of itself, again and again.
///     #[derive(Debug)]
///     pub struct Falling {
///         #[required] initial: f64, in 0.0.., "value at step 0";
///         /// Sets which part is left after a step.
///         factor: f64 = 0.5, in 0.0..=1.0, "part that is left after a step";
///     }
///     schedule "Falling"
/// }
///
/// impl Falling {
///     /// Falls by half.
///     pub fn new(initial: f64) -> Self {
///         Self::with_defaults(initial)
///     }
/// }
///
/// impl Schedule for Falling {
///     fn value(&self, step: u64) -> f64 {
///         self.initial * self.factor.powf(step as f64)
///     }
/// }
///
/// assert_eq!(Falling::new(4.0).value(2), 1.0);
/// let error = Hyper::from(Falling::new(1.0).factor(1.5)).validate("rate", ..).unwrap_err();
/// assert_eq!(error.to_string(), "factor is 1.5, expected a number in [0, 1]");
/// ```
#[macro_export]
macro_rules! hyperparameters {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $Struct:ident {
            $(#[dialect($in_dialect:expr)] $dialect:ident = $own_dialect:expr;)?
            $(#[required] $required:ident: $Required:ty $(, in $required_range:expr)?, $required_meaning:literal;)*
            $(
                $(#[doc = $setter:literal])*
                $name:ident: $Type:ty = $default:expr
                    $(, in $range:expr)? $(, if $only:pat)? $(, unless $unless:ident)?, $meaning:literal;
            )*
        }
        $kind:ident $class:literal $({
            $(dialect: $constant:expr,)?
            $(check: $check:expr,)?
            $(check_read: $check_read:expr,)?
            $(default_weight_decay: $default_weight_decay:expr,)?
        })?
    ) => {
        $(#[$attribute])*
        $visibility struct $Struct {
            $(pub(crate) $dialect: $crate::config::Dialect,)?
            $(pub(crate) $required: $Required,)*
            $(pub(crate) $name: $Type,)*
        }

        impl $Struct {
            /// Takes the required hyperparameters; all others get their defaults.
            pub(crate) fn with_defaults($($required: $Required),*) -> Self {
                Self {
                    $($dialect: $own_dialect,)?
                    $($required,)*
                    $($name: $crate::config::default_of::<$Type>($default),)*
                }
            }

            /// Reads the optional hyperparameters that are present.
            fn read_optional(
                &mut self,
                fields: &mut $crate::config::Fields<'_>,
            ) -> Result<(), $crate::config::ConfigError> {
                // Not every class has optional fields.
                let _ = &fields;
                $(
                    if $crate::hyperparameters!(@exists self [$($only)?]) {
                        if let Some(value) = fields.optional(stringify!($name))? {
                            self.$name = value;
                        }
                    }
                )*
                Ok(())
            }

            $($crate::hyperparameters!(@setter [$($setter)*] $name $Type [$default] [$($range)?]);)*
        }

        impl $crate::config::FromFields for $Struct {
            const CLASS_NAME: &'static str = $class;

            fn hyperparameters() -> Vec<$crate::config::HyperparameterSpec> {
                vec![
                    $($crate::config::HyperparameterSpec::dialect($in_dialect, $own_dialect),)?
                    $($crate::config::HyperparameterSpec::required::<$Required>(
                        stringify!($required),
                        $crate::hyperparameters!(@range $($required_range)?),
                        $required_meaning,
                    ),)*
                    $($crate::config::HyperparameterSpec::optional::<$Type>(
                        stringify!($name),
                        $default,
                        $crate::hyperparameters!(@range $($range)?),
                        $meaning,
                    ),)*
                ]
            }

            fn from_fields(fields: &mut $crate::config::Fields<'_>) -> Result<Self, $crate::config::ConfigError> {
                let mut read = $crate::hyperparameters!(
                    @start fields [$($in_dialect, $own_dialect)?] [$(fields.required::<$Required>(stringify!($required))?),*]
                );
                read.read_optional(fields)?;
                $($($crate::config::together(&read, $check_read)?;)?)?
                Ok(read)
            }
        }

        impl $crate::config::Configurable for $Struct {
            fn class_name(&self) -> &str {
                $class
            }

            fn config(&self) -> Result<$crate::config::Config, $crate::config::ConfigError> {
                let defaults: Option<Self> = $crate::hyperparameters!(@defaults self [$($in_dialect)?]);
                let _ = &defaults;
                let mut config = $crate::config::start($crate::hyperparameters!(@key self [$($dialect)?]));
                $($crate::config::put(&mut config, stringify!($required), &self.$required, None)?;)*
                $(
                    if $crate::hyperparameters!(@exists self [$($only)?]) {
                        let left_out = $crate::hyperparameters!(@left_out defaults $name $Type [$default] $($unless)?);
                        $crate::config::put(&mut config, stringify!($name), &self.$name, left_out.as_ref())?;
                    }
                )*
                Ok(config)
            }

            fn validate(&self) -> Result<(), $crate::config::HyperparameterError> {
                $($crate::config::HyperparameterValue::check(
                    &self.$required,
                    stringify!($required),
                    $crate::hyperparameters!(@range $($required_range)?),
                )?;)*
                $($crate::config::HyperparameterValue::check(
                    &self.$name,
                    stringify!($name),
                    $crate::hyperparameters!(@range $($range)?),
                )?;)*
                $($($crate::config::together(self, $check)?;)?)?
                Ok(())
            }
        }

        $crate::hyperparameters!(@$kind $Struct [$($dialect)?] [$($($constant)?)?] [$($($default_weight_decay)?)?]);
    };

    (@range) => { Default::default() };
    (@range $range:expr) => { Into::into($range) };

    (@exists $this:ident []) => { true };
    (@exists $this:ident [$only:pat]) => { matches!($crate::config::Hyperparameters::dialect($this), $only) };

    (@start $fields:ident [] [$($required:expr),*]) => { Self::with_defaults($($required),*) };
    (@start $fields:ident [$in_dialect:expr, $own:expr] []) => { $fields.in_dialect($own, $in_dialect)? };

    (@defaults $this:ident []) => { None };
    (@defaults $this:ident [$in_dialect:expr]) => {
        $crate::config::default_in($in_dialect, $crate::config::Hyperparameters::dialect($this))
    };

    (@left_out $defaults:ident $name:ident $Type:ty [$default:expr]) => { None::<$Type> };
    (@left_out $defaults:ident $name:ident $Type:ty [$default:expr] default) => {
        Some($defaults.as_ref().map_or_else(|| $crate::config::default_of::<$Type>($default), |of| of.$name.clone()))
    };

    (@setter [] $($field:tt)*) => {};
    (@setter [$($setter:literal)+] $name:ident $Type:ty [$default:expr] [$($range:expr)?]) => {
        $(#[doc = $setter])+
        #[doc = ""]
        #[doc = concat!("Default: `", stringify!($default), "`" $(, "; range: `", stringify!($range), "`")?, ".")]
        #[must_use]
        pub fn $name(mut self, $name: $Type) -> Self {
            self.$name = $name;
            self
        }
    };

    (@schedule $Struct:ident [] [] []) => {};
    (@part $Struct:ident [] [] []) => {};
    (@rule $Struct:ident [$($dialect:ident)?] [$($constant:expr)?] [$($default_weight_decay:expr)?]) => {
        impl $crate::config::Hyperparameters for $Struct {
            fn learning_rate(&self) -> &$crate::Hyper {
                &self.learning_rate
            }

            fn learning_rate_mut(&mut self) -> &mut $crate::Hyper {
                &mut self.learning_rate
            }

            fn dialect(&self) -> $crate::config::Dialect {
                $crate::hyperparameters!(@dialect self [$($dialect)?] [$($constant)?])
            }

            $(fn default_weight_decay(&self) -> Option<f64> {
                $default_weight_decay(self)
            })?

            fn begin_traced<'a>(
                &'a self,
                step: &$crate::rule::Step,
                shared: &mut [f64],
            ) -> Option<$crate::trace::TracedKernel<'a>> {
                $crate::trace::Probe(self).begin(step, shared)
            }
        }

        impl Default for $Struct {
            fn default() -> Self {
                Self::with_defaults()
            }
        }
    };

    (@key $this:ident []) => { None };
    (@key $this:ident [$dialect:ident]) => { Some($this.$dialect) };

    (@dialect $this:ident [] []) => { $crate::config::Dialect::Keras };
    (@dialect $this:ident [] [$constant:expr]) => { $constant };
    (@dialect $this:ident [$dialect:ident] []) => { $this.$dialect };
}

/// The default of a hyperparameter.
#[doc(hidden)]
pub fn default_of<V: HyperparameterValue>(default: V::Literal) -> V {
    default.into()
}

/// The settings of a dialect.
#[doc(hidden)]
pub fn default_in<C>(in_dialect: impl Fn(Dialect) -> Option<C>, dialect: Dialect) -> Option<C> {
    in_dialect(dialect)
}

/// Starts the configuration of a class, with the key of its dialect unless the form tells it.
#[doc(hidden)]
#[must_use]
pub fn start(dialect: Option<Dialect>) -> Config {
    let written = dialect.filter(|dialect| !dialect.is_told_by_form());
    written.map(|dialect| (Dialect::KEY.to_owned(), dialect.name().into())).into_iter().collect()
}

/// Writes a hyperparameter, unless it has the value that is left out.
#[doc(hidden)]
pub fn put<V: HyperparameterValue>(
    config: &mut Config,
    key: &str,
    value: &V,
    left_out: Option<&V>,
) -> Result<(), ConfigError> {
    let value = value.to_json()?;
    if left_out.map(V::to_json).transpose()?.as_ref() != Some(&value) {
        config.insert(key.to_owned(), value);
    }
    Ok(())
}

/// Runs a check of several hyperparameters together.
#[doc(hidden)]
pub fn together<C, E>(class: &C, check: impl Fn(&C) -> Result<(), E>) -> Result<(), E> {
    check(class)
}
