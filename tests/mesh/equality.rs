//! Every rule with every option on every mesh, with variables in every layout.

use optimizers::collective::Reduction;
use optimizers::mesh::Layout;

use super::problem::{OPTIONS, Problem, RULES, Spec};
use super::run::same;

pub(crate) const MESHES: [&[(&str, usize)]; 5] =
    [&[("x", 1)], &[("x", 2)], &[("x", 4)], &[("x", 2), ("y", 2)], &[("x", 8)]];

fn spec(name: &str, shape: &[usize], axes: &[Option<&'static str>], sparse: bool) -> Spec {
    Spec { name: name.to_owned(), shape: shape.to_vec(), layout: Layout::new(axes.iter().copied()), sparse }
}

/// Variables that are replicated or sharded, on each axis, on two axes where the mesh has two dimensions, evenly and
/// unevenly, down to empty shards.
pub(crate) fn variables(mesh: &[(&'static str, usize)]) -> Vec<Spec> {
    let second = mesh.get(1).map(|(name, _)| *name);
    vec![
        spec("a0", &[3, 5], &[None, None], false),
        spec("a1", &[8, 3], &[Some("x"), None], false),
        spec("b0", &[3, 7], &[second, Some("x")], false),
        spec("b1", &[5], &[Some("x")], false),
        spec("c0", &[], &[], false),
        spec("c1", &[10, 4], &[Some("x"), second], true),
        spec("d0", &[2, 3, 9], &[None, second, Some("x")], false),
        spec("d1", &[6, 4], &[None, None], true),
    ]
}

pub(crate) fn problem(mesh: &[(&'static str, usize)], rule: usize, option: usize) -> Problem {
    Problem {
        mesh: mesh.to_vec(),
        variables: variables(mesh),
        rule,
        option,
        reduction: None,
        state_over: None,
        bucket_bytes: 25 << 20,
        overlap: false,
        steps: 3,
    }
}

#[test]
fn every_rule_and_option_on_every_mesh() {
    for mesh in MESHES {
        for rule in 0..RULES {
            for option in 0..OPTIONS {
                same::<f64>(&problem(mesh, rule, option));
            }
        }
    }
}

/// In 32 bits, too, everything without norms is the same bit for bit.
#[test]
fn every_rule_in_32_bits() {
    for mesh in MESHES {
        for rule in 0..RULES {
            for option in 0..OPTIONS {
                let problem = problem(mesh, rule, option);
                if !problem.has_norms() {
                    same::<f32>(&problem);
                }
            }
        }
    }
}

#[test]
fn gradients_are_reduced_before_they_are_clipped() {
    for mesh in MESHES {
        for reduction in [Reduction::Sum, Reduction::Mean] {
            for option in 0..OPTIONS {
                let over: Vec<&str> = mesh.iter().map(|(name, _)| *name).collect();
                for over in [vec!["x"], over] {
                    // Buckets of one gradient, of several, and of all gradients.
                    for bucket_bytes in [1, 150, 25 << 20] {
                        let reduction = Some((over.clone(), reduction));
                        same::<f64>(&Problem { reduction, bucket_bytes, ..problem(mesh, 1 + option % 3, option) });
                    }
                }
            }
        }
    }
}

#[test]
fn sharded_state_changes_no_result() {
    for mesh in MESHES {
        for rule in 0..RULES {
            for option in 0..OPTIONS {
                for reduction in [None, Some((vec!["x"], Reduction::Mean))] {
                    let problem = Problem { state_over: Some("x"), reduction, ..problem(mesh, rule, option) };
                    same::<f64>(&problem);
                }
            }
        }
    }
}

/// Replicated variables are cut into parts along one axis, by the mesh dimension that the variable's layout does not
/// use.
#[test]
fn sharded_state_of_sharded_variables() {
    for option in 0..OPTIONS {
        let mesh = [("x", 2), ("y", 2)];
        same::<f64>(&Problem { state_over: Some("y"), ..problem(&mesh, 6, option) });
    }
}

#[test]
fn overlap_changes_no_result() {
    for mesh in MESHES {
        for rule in 0..RULES {
            for option in 0..OPTIONS {
                // Three buckets, and variables that are in no bucket.
                let dense = variables(mesh).into_iter().map(|spec| Spec { sparse: false, ..spec }).collect();
                let reduction = Some((vec!["x"], Reduction::Mean));
                let problem = problem(mesh, rule, option);
                same::<f64>(&Problem { variables: dense, reduction, bucket_bytes: 100, overlap: true, ..problem });
            }
        }
    }
}
