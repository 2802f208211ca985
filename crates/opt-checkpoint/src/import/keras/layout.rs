//! Lists of arrays without names: which array is what.
//!
//! | | first | then, each for all variables in their order | last |
//! |---|---|---|---|
//! | legacy, Addons | counter | shared numbers, slot by slot | |
//! | Keras 2.11 to 2.15 | counter | averages, then variable by variable | |
//! | Keras 3 | counter, learning rate unless it is a schedule | averages, then variable by variable | shared numbers |
//!
//! Variable by variable are the moments; the `vhat` of all variables follow.

use std::fmt;

use opt_core::Ema;
use opt_core::state::StateKind;

use super::super::assemble::Wanted;
use super::super::foreign::{Foreign, Named};
use super::Version;

/// What an array of a list is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The entry of the state with this index.
    Entry(usize),
    LearningRate,
    /// The last step of this variable, which Keras 2.11 to 2.15 keep for an SGD without momentum. Their next step
    /// multiplies it by 0.
    LastStep(usize),
}

/// The order in which a version lists its arrays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    version: Version,
    pub(super) roles: Vec<Role>,
    /// Whether the optimizer here follows this version.
    is_followed: bool,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Legacy => "Keras up to 2.10 (from_keras_legacy)",
            Self::Keras2 => "Keras 2.11 to 2.15 (from_keras2)",
            Self::Keras3 => "Keras 3 (from_keras3)",
        })
    }
}

/// The slot of AMSGrad, which newer generations list after the slots of all variables.
const LISTED_LAST: &str = "vhat";

/// The entries of the state, in groups.
struct Groups {
    averages: Vec<Role>,
    shared: Vec<Role>,
    by_slot: Vec<Role>,
    by_variable: Vec<Role>,
}

impl Groups {
    fn new(entries: &[Wanted]) -> Self {
        let is_slot = |wanted: &Wanted| wanted.slot != Ema::SLOT && !wanted.is_master();
        let of = |belongs: &dyn Fn(&Wanted) -> bool| -> Vec<usize> {
            (0..entries.len()).filter(|&entry| belongs(&entries[entry])).collect()
        };
        let roles = |entries: &[usize]| entries.iter().copied().map(Role::Entry).collect::<Vec<Role>>();
        let averages = of(&|wanted| wanted.variable.is_some() && wanted.slot == Ema::SLOT);
        let shared = of(&|wanted| wanted.variable.is_none() && wanted.kind == StateKind::Scalar);
        let mut slots = of(&|wanted| wanted.variable.is_some() && is_slot(wanted));
        slots.sort_by_key(|&entry| entries[entry].variable);
        let (of_all, of_each): (Vec<usize>, Vec<usize>) =
            slots.iter().partition(|&&entry| entries[entry].slot == LISTED_LAST);
        let by_variable = [roles(&of_each), roles(&of_all)].concat();
        // The first variable has each slot once, in their order.
        let names: Vec<&str> = slots
            .iter()
            .map(|&entry| &entries[entry])
            .take_while(|wanted| wanted.variable == Some(0))
            .map(|wanted| wanted.slot.as_str())
            .collect();
        slots.sort_by_key(|&entry| names.iter().position(|name| *name == entries[entry].slot));
        Self { averages: roles(&averages), shared: roles(&shared), by_slot: roles(&slots), by_variable }
    }
}

impl Layout {
    /// All lists of these entries. An optimizer that is not of the new generation has only the legacy one, but is
    /// compared with all.
    pub(super) fn all(class: &str, is_new: bool, entries: &[Wanted], variables: usize) -> Vec<Self> {
        let layout = |version, parts: &[&[Role]]| {
            let is_followed = is_new == (version != Version::Legacy);
            Self { version, roles: parts.concat(), is_followed }
        };
        let saved = (0..entries.len()).filter(|&entry| !entries[entry].is_master());
        let saved: Vec<Role> = saved.map(Role::Entry).collect();
        if !["SGD", "Nadam", "Adam", "AdamW"].contains(&class) {
            return vec![Self { version: Version::Legacy, roles: saved, is_followed: true }];
        }
        let counter = &[Role::Entry(0)][..];
        let Groups { averages, shared, by_slot, by_variable } = &Groups::new(entries);
        let legacy = [counter, averages, shared, by_slot];
        let legacy_saved = [&saved[..]];
        let mut layouts = vec![
            layout(Version::Legacy, if is_new { &legacy } else { &legacy_saved }),
            layout(Version::Keras2, &[counter, averages, by_variable]),
            layout(Version::Keras3, &[counter, &[Role::LearningRate], averages, by_variable, shared]),
            layout(Version::Keras3, &[counter, averages, by_variable, shared]),
        ];
        if class == "SGD" && by_slot.is_empty() {
            let last_steps: Vec<Role> = (0..variables).map(Role::LastStep).collect();
            layouts.push(layout(Version::Keras2, &[counter, averages, &last_steps]));
        }
        layouts
    }

    /// Whether each array has the shape of its role, and counters and single numbers are some.
    fn fits(&self, arrays: &[Named], entries: &[Wanted], shapes: &[Vec<usize>]) -> bool {
        let fits = |(role, Named { array, .. }): (&Role, &Named)| match role {
            Role::LearningRate => array.shape.is_empty() && is_number(array),
            Role::LastStep(variable) => array.shape == shapes[*variable] && is_float(array),
            Role::Entry(entry) => match &entries[*entry].kind {
                StateKind::Iterations => array.count("").is_ok(),
                StateKind::Scalar => is_number(array),
                StateKind::Array(shape) | StateKind::Bf16(shape) => array.shape == *shape && is_float(array),
            },
        };
        self.roles.len() == arrays.len() && self.roles.iter().zip(arrays).all(fits)
    }

    fn has_last_steps(&self) -> bool {
        self.roles.iter().any(|role| matches!(role, Role::LastStep(_)))
    }

    /// What it takes to the state here: the entries, and the places of their arrays.
    fn effect(&self) -> Vec<(usize, usize)> {
        let places = self.roles.iter().enumerate();
        let taken = places.filter_map(|(place, role)| match role {
            Role::Entry(entry) => Some((*entry, place)),
            _ => None,
        });
        taken.collect()
    }
}

fn is_float(array: &Foreign) -> bool {
    use safetensors::Dtype::{BF16, F16, F32, F64};
    [F16, BF16, F32, F64].contains(&array.dtype)
}

fn is_number(array: &Foreign) -> bool {
    array.number("").is_ok()
}

/// The only layout that a list can have. Never a guess: two layouts that would load different state are refused.
pub(super) fn choose(
    arrays: &[Named],
    entries: &[Wanted],
    shapes: &[Vec<usize>],
    layouts: Vec<Layout>,
    version: Option<Version>,
) -> Result<Layout, String> {
    let known: Vec<Layout> =
        layouts.into_iter().filter(|layout| version.is_none_or(|version| layout.version == version)).collect();
    let fitting: Vec<&Layout> = known.iter().filter(|layout| layout.fits(arrays, entries, shapes)).collect();
    let Some(first) = fitting.first() else {
        return nearest(&known, arrays.len()).cloned().ok_or_else(|| other_length(&known, entries, arrays.len()));
    };
    if fitting.iter().any(|layout| layout.effect() != first.effect()) {
        let versions: Vec<String> = fitting.iter().map(|layout| layout.version.to_string()).collect();
        return Err(format!("the list could be from {}: say which, or save it with names", versions.join(", or ")));
    }
    let Some(followed) = fitting.iter().find(|layout| layout.is_followed) else {
        return Err(format!("the list is from {}, whose dialect is not the optimizer's", first.version));
    };
    if followed.has_last_steps() && version.is_none() {
        return Err(format!(
            "the optimizer has no momentum, and the list has: only {} saves it where it is not used",
            Version::Keras2
        ));
    }
    Ok((*followed).clone())
}

/// The layout to compare entry for entry: the only one of this length.
fn nearest(layouts: &[Layout], length: usize) -> Option<&Layout> {
    let mut same = layouts.iter().filter(|layout| layout.is_followed && layout.roles.len() == length);
    let first = same.next()?;
    same.all(|other| other.effect() == first.effect()).then_some(first)
}

fn other_length(layouts: &[Layout], entries: &[Wanted], found: usize) -> String {
    let Some(layout) = layouts.iter().find(|layout| layout.is_followed) else {
        return "the optimizer's dialect is not that of this version of Keras".to_owned();
    };
    let name = |role: &Role| match role {
        Role::Entry(entry) => entries[*entry].name.as_str(),
        Role::LearningRate => "learning_rate",
        Role::LastStep(_) => "last step",
    };
    let names: Vec<&str> = layout.roles.iter().map(name).collect();
    format!("{found} arrays, the optimizer has {}: {}", names.len(), names.join(", "))
}
