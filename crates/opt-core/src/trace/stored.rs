//! Recorded updates of arrays that are stored in 16 bits.

use half::{bf16, f16};

use super::graph::{Array, Graph, Node, Operation, Update};
use super::narrow::{Draws, Narrow};
use crate::dtype::DType;
use crate::master::Master;
use crate::precision::extended::Extended;

/// Which arrays of a variable are stored in fewer bits, and how an update rounds them.
#[derive(Debug, Clone)]
pub(crate) struct Storage {
    /// The type of a variable in 16 bits, and how its master is stored.
    pub(crate) half: Option<(DType, Master)>,
    /// Whether what has no master in full is rounded to nearest, and not by random numbers.
    pub(crate) to_nearest: bool,
    /// The places among the array slots of moments in bfloat16.
    pub(crate) moments: Vec<u8>,
}

impl Update {
    /// The same update of arrays some of which are stored in fewer bits.
    pub(crate) fn stored(self, storage: &Storage) -> Self {
        if storage.half.is_none() && storage.moments.is_empty() {
            return self;
        }
        let is_changed = !self.graph.stores.is_empty();
        let Self { graph: Graph { dtype, nodes, mut stores }, parameters } = self;
        let mut new = Self { graph: Graph { dtype, nodes: Vec::new(), stores: Vec::new() }, parameters };
        let half = storage.half.filter(|_| is_changed);
        let is_read = nodes.contains(&Node::Load(Array::Value));
        let is_replaced = stores.iter().any(|(array, _)| *array == Array::Value);
        let master = half.filter(|_| is_read || !is_replaced).map(|(half, master)| new.master(half, master));
        let mut places: Vec<u32> = Vec::with_capacity(nodes.len());
        for node in nodes {
            let place = match (node, master) {
                (Node::Load(Array::Value), Some(master)) => master,
                _ => new.push(node.renumbered(|operand| places[operand as usize])),
            };
            places.push(place);
        }
        stores.iter_mut().for_each(|(_, node)| *node = places[*node as usize]);
        if let Some((half, storage_of_master)) = half {
            let replaced = stores.iter().find(|(array, _)| *array == Array::Value).map(|(_, node)| *node);
            let value = replaced.or(master).expect("a variable that is not replaced is read");
            stores.retain(|(array, _)| *array != Array::Value);
            new.store_half(half, storage_of_master, value, storage.to_nearest);
        }
        for (array, node) in stores {
            let place = |slot: u8| storage.moments.iter().position(|moment| *moment == slot);
            let packed = if let Array::Slot(slot) = array { place(slot) } else { None };
            let stored = packed.map_or(node, |packed| {
                let random = new.push(Node::Load(Array::Random(packed as u8)));
                new.push(Node::Binary(Operation::Moment, node, random))
            });
            new.graph.stores.push((array, stored));
        }
        new
    }

    /// Puts an array into a variable in 16 bits, rounded; its master in full keeps its own numbers.
    pub(crate) fn showing(dtype: DType, half: DType, array: Array) -> Self {
        let graph = Graph { dtype, nodes: Vec::new(), stores: Vec::new() };
        let mut new = Self { graph, parameters: Vec::new() };
        let own = new.master(half, Master::Full);
        let shown = if array == Array::Master { own } else { new.push(Node::Load(array)) };
        let rounded = new.push(Node::Binary(of(Narrow::Nearest, half), shown, shown));
        new.graph.stores = vec![(Array::Value, rounded), (Array::Master, own)];
        new
    }

    /// Adds a node; a load that is there already is not added twice.
    fn push(&mut self, node: Node) -> u32 {
        let is_load = matches!(node, Node::Load(_));
        let same = if is_load { self.graph.nodes.iter().position(|known| *known == node) } else { None };
        same.unwrap_or_else(|| {
            self.graph.nodes.push(node);
            self.graph.nodes.len() - 1
        }) as u32
    }

    /// Adds the master of a variable before the step.
    fn master(&mut self, half: DType, master: Master) -> u32 {
        let value = self.push(Node::Load(Array::Value));
        match master {
            Master::Full => {
                let master = self.push(Node::Load(Array::Master));
                self.push(Node::Binary(of(Narrow::Current, half), master, value))
            }
            Master::Bits24 { .. } => {
                let correction = self.push(Node::Load(Array::Correction));
                self.push(Node::Binary(of(Narrow::Join, half), value, correction))
            }
            Master::None { .. } => value,
        }
    }

    /// Stores a variable and its master.
    fn store_half(&mut self, half: DType, master: Master, new: u32, to_nearest: bool) {
        let store = |this: &mut Self, array, narrow: Narrow, b| {
            let node = this.push(Node::Binary(of(narrow, half), new, b));
            this.graph.stores.push((array, node));
        };
        match master {
            Master::Full => {
                store(self, Array::Value, Narrow::Nearest, new);
                self.graph.stores.push((Array::Master, new));
            }
            Master::Bits24 { .. } => {
                let random = if to_nearest { self.half_of_last_digit(half) } else { self.random_of_master() };
                store(self, Array::Correction, Narrow::Correction, random);
                store(self, Array::Value, Narrow::Part, random);
            }
            Master::None { .. } if to_nearest => store(self, Array::Value, Narrow::Nearest, new),
            Master::None { .. } => {
                let random = self.random_of_master();
                store(self, Array::Value, Narrow::Alone, random);
            }
        }
    }

    fn random_of_master(&mut self) -> u32 {
        self.push(Node::Load(Array::Random(Draws::MASTER)))
    }

    /// The number by which a master is rounded to nearest in 24 bits.
    fn half_of_last_digit(&mut self, half: DType) -> u32 {
        let dropped = if half == DType::F16 { f16::DROPPED } else { bf16::DROPPED };
        self.parameters.push(f64::from(1 << (dropped - 1)));
        self.push(Node::Parameter(self.parameters.len() as u32 - 1))
    }
}

/// An operation for a type of 16 bits.
fn of(narrow: Narrow, dtype: DType) -> Operation {
    if dtype == DType::F16 { Operation::F16(narrow) } else { Operation::Bf16(narrow) }
}
