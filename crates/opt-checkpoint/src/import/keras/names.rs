//! The names of arrays: those of this library, or Keras's own.
//!
//! | | slot `m` of `dense/kernel` |
//! |---|---|
//! | here | `dense/kernel/m` |
//! | legacy, Addons | `Nadam/dense/kernel/m:0` |
//! | Keras 2.11 to 2.15 | `Nadam/m/dense/kernel:0` |
//! | Keras 3 | `nadam/dense_kernel_momentum` |

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use opt_core::state::StateKind;

use super::super::assemble::Wanted;
use super::super::foreign::Named;
use crate::load::Names;

/// The arrays of a file by their names, after all replacements.
#[derive(Debug)]
pub(super) struct KerasNames<'f> {
    arrays: &'f [Named],
    places: HashMap<String, usize>,
    /// The places of `PREFIX/name` by name; none where several have it.
    behind_prefix: HashMap<String, Option<usize>>,
}

impl<'f> KerasNames<'f> {
    /// Two arrays with the same name are refused.
    pub(super) fn new(arrays: &'f [Named], names: &Names) -> Result<Self, String> {
        let mut places = HashMap::with_capacity(arrays.len());
        for (place, named) in arrays.iter().enumerate() {
            let name = names.renamed(named.name.strip_suffix(":0").unwrap_or(&named.name));
            match places.entry(name.into_owned()) {
                Entry::Occupied(twice) => return Err(format!("{:?} is there twice after renaming", twice.key())),
                Entry::Vacant(new) => _ = new.insert(place),
            }
        }
        let mut behind_prefix = HashMap::with_capacity(arrays.len());
        for (name, place) in &places {
            if let Some((_, rest)) = name.split_once('/') {
                behind_prefix.entry(rest.to_owned()).and_modify(|place| *place = None).or_insert(Some(*place));
            }
        }
        Ok(Self { arrays, places, behind_prefix })
    }

    /// The array of an entry of the state.
    pub(super) fn find(&self, wanted: &Wanted, variable: Option<&str>) -> Option<&'f Named> {
        let slot = wanted.slot.as_str();
        let Some(variable) = variable else {
            return match wanted.kind {
                StateKind::Iterations => self.first(&["iterations", "iteration", "iter"]),
                _ => self.first(&[slot, "u_product"]).or_else(|| self.nameless()),
            };
        };
        // The path of a field here has dots, that of a layer there has slashes.
        let layer = variable.replace('.', "/");
        let keras3 = format!("{layer}_{}", in_keras3(slot)).replace('/', "_");
        let keras2 = if slot == "momentum" { "m" } else { slot };
        let (own, of_layer) = (format!("{keras2}/{variable}"), format!("{keras2}/{layer}"));
        self.first(&[&wanted.name, &format!("{layer}/{slot}"), &own, &of_layer, &keras3])
    }

    /// Whether the product of momenta has the name that it has in Keras 3.
    pub(super) fn has_product_of_keras3(&self) -> bool {
        self.first(&["u_product"]).is_some()
    }

    /// The place of a variable's array.
    pub(super) fn variable(&self, name: &str) -> Option<usize> {
        self.places.get(name).or_else(|| self.places.get(&name.replace('.', "/"))).copied()
    }

    pub(super) fn learning_rate(&self) -> Option<&'f Named> {
        self.first(&["learning_rate"])
    }

    /// The array with the first of these names that is there. Keras puts the name of the optimizer before them.
    fn first(&self, names: &[&str]) -> Option<&'f Named> {
        let exact = names.iter().find_map(|name| self.places.get(*name).copied());
        let place = exact.or_else(|| names.iter().find_map(|name| *self.behind_prefix.get(*name)?))?;
        Some(&self.arrays[place])
    }

    /// The product of momenta, which Keras 3 calls `variable`, `variable_1`, ...
    fn nameless(&self) -> Option<&'f Named> {
        let is_nameless = |name: &str| {
            let last = name.rsplit('/').next().unwrap_or(name);
            let number = last.strip_prefix("variable").map(|rest| rest.trim_start_matches('_'));
            number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let mut nameless = self.places.iter().filter(|(name, _)| is_nameless(name));
        let (_, place) = nameless.next()?;
        nameless.next().is_none().then(|| &self.arrays[*place])
    }
}

fn in_keras3(slot: &str) -> &str {
    match slot {
        "m" => "momentum",
        "v" => "velocity",
        "vhat" => "velocity_hat",
        other => other,
    }
}
