//! Random meshes, layouts, shapes, rules and options.

use optimizers::collective::Reduction;
use optimizers::mesh::Layout;
use proptest::prelude::*;
use proptest::sample::select;

use super::equality::MESHES;
use super::problem::{OPTIONS, Problem, RULES, Spec};
use super::run::same;

type Mesh = Vec<(&'static str, usize)>;

/// A layout that uses each mesh dimension at most once. `cuts` has, for each dimension, the axis that it cuts, if any.
fn layout(mesh: &Mesh, axes: usize, cuts: &[usize]) -> Layout {
    let mut layout = vec![None; axes];
    for ((name, _), cut) in mesh.iter().zip(cuts) {
        if let Some(axis @ None) = layout.get_mut(*cut) {
            *axis = Some(*name);
        }
    }
    Layout::new(layout)
}

fn spec(mesh: Mesh) -> impl Strategy<Value = Spec> {
    let shape = proptest::collection::vec(0..7_usize, 0..4);
    (shape, proptest::collection::vec(0..5_usize, 2), any::<bool>()).prop_map(move |(shape, cuts, sparse)| Spec {
        name: String::new(),
        layout: layout(&mesh, shape.len(), &cuts),
        sparse: sparse && shape.first().is_some_and(|&rows| rows > 0),
        shape,
    })
}

prop_compose! {
    fn problem()(mesh in select(MESHES.to_vec()).prop_map(<[_]>::to_vec))(
        variables in proptest::collection::vec(spec(mesh.clone()), 1..5),
        (rule, option) in (0..RULES, 0..OPTIONS),
        over in proptest::sample::subsequence(mesh.clone(), 0..=mesh.len()),
        reduction in select(vec![Reduction::Sum, Reduction::Mean]),
        state_over in proptest::option::of(select(mesh.clone())),
        bucket_bytes in select(vec![1, 64, 300, 25 << 20]),
        overlap in any::<bool>(),
        steps in 1..4_u64,
        mesh in Just(mesh),
    ) -> Problem {
        let name = |(i, spec): (usize, Spec)| Spec { name: format!("v{i}"), ..spec };
        Problem {
            variables: variables.into_iter().enumerate().map(name).collect(),
            reduction: Some((over.into_iter().map(|(name, _)| name).collect(), reduction)),
            state_over: state_over.map(|(name, _)| name),
            mesh, rule, option, bucket_bytes, overlap, steps,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn any_mesh_equals_one_process(problem in problem()) {
        same::<f64>(&problem);
        if !problem.has_norms() {
            same::<f32>(&problem);
        }
    }
}
