//! Takes the update of an element from the tape: what reaches a store.

use super::Untraceable;
use super::graph::{Array, Graph, Node, Update};
use super::numbers::Traced;
use super::tape::{Entry, Tape};
use crate::dtype::DType;

impl Update {
    /// Takes the update of an element from the tape: the numbers of its arrays before and after the step.
    pub(crate) fn of(
        tape: &Tape,
        element: usize,
        arrays: impl IntoIterator<Item = (Array, Traced, Traced)>,
    ) -> Result<Self, Untraceable> {
        let changed = arrays.into_iter().filter(|(_, before, after)| !before.is_same(*after));
        tape.read(|tape| {
            let store = |(array, _, after): (Array, Traced, Traced)| Some((array, tape.find(after.0)?));
            let stores = changed.map(store).collect::<Option<Vec<_>>>();
            match tape.broken {
                Some(reason) => Err(reason),
                None => Self::without_dead(&tape.entries, stores.ok_or(Untraceable::Foreign)?, element, tape.dtype),
            }
        })
    }

    /// The nodes that stores depend on, numbered anew.
    fn without_dead(
        entries: &[Entry],
        mut stores: Vec<(Array, u32)>,
        element: usize,
        dtype: DType,
    ) -> Result<Self, Untraceable> {
        let mut is_live = vec![false; entries.len()];
        stores.iter().for_each(|(_, place)| is_live[*place as usize] = true);
        for (place, entry) in entries.iter().enumerate().rev() {
            if let (true, Entry::Node(node)) = (is_live[place], entry) {
                node.operands().for_each(|operand| is_live[operand as usize] = true);
            }
        }
        let mut numbers = vec![0; entries.len()];
        let (mut nodes, mut parameters) = (Vec::new(), Vec::new());
        for (place, entry) in entries.iter().enumerate().filter(|(place, _)| is_live[*place]) {
            numbers[place] = nodes.len() as u32;
            nodes.push(match *entry {
                Entry::Load(_, other) if other != element => return Err(Untraceable::Mixed),
                Entry::Load(array, _) => Node::Load(array),
                Entry::Uniform(value) => {
                    parameters.push(value);
                    Node::Parameter(parameters.len() as u32 - 1)
                }
                Entry::Node(node) => node.renumbered(|operand| numbers[operand as usize]),
            });
        }
        stores.iter_mut().for_each(|(_, place)| *place = numbers[*place as usize]);
        Ok(Self { graph: Graph { dtype, nodes, stores }, parameters })
    }
}
