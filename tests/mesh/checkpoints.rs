//! Runs that are saved on one mesh, or one process, and resumed on another.

use std::path::Path;

use ndarray::ArrayD;
use optimizers::checkpoint::{Checkpoint, save};
use optimizers::mesh::Mesh;
use optimizers::state::{StateEntry, StateValue};

use super::equality::{MESHES, problem};
use super::problem::{OPTIONS, Problem, RULES};
use super::run::{Run, close, within_ulps};

/// The steps before the checkpoint, and all steps.
const STOP: u64 = 2;
const STEPS: u64 = 4;

/// One process, or a mesh.
type Where = Option<&'static [(&'static str, usize)]>;

/// The problem, and whether state is sharded wherever possible.
#[derive(Debug, Clone, Copy)]
struct What {
    rule: usize,
    option: usize,
    parts: bool,
}

impl What {
    fn on(self, place: Where) -> Problem {
        let state_over = self.parts.then_some("x");
        Problem { state_over, steps: STEPS, ..problem(place.unwrap_or(MESHES[0]), self.rule, self.option) }
    }

    /// Every rule and every option in turn, with and without sharded state.
    fn all() -> impl Iterator<Item = Self> {
        (0..RULES + 1).map(|turn| Self { rule: turn % RULES, option: (turn + 5) % OPTIONS, parts: turn % 2 == 1 })
    }
}

fn everywhere() -> impl Iterator<Item = Where> {
    [None].into_iter().chain(MESHES.map(Some))
}

/// Does the same on all ranks.
fn ranks(place: Where, what: What, work: impl Fn(&mut Run<'_, f64>) + Sync) {
    let problem = what.on(place);
    match place {
        None => work(&mut Run::new(&problem, None)),
        Some(mesh) => drop(Mesh::threads(mesh, |mesh| work(&mut Run::new(&problem, Some(mesh)))).unwrap()),
    }
}

fn save_run(run: &mut Run<'_, f64>, path: &Path) {
    let (optimizer, variables) = run.parts();
    save(path, optimizer, &variables).unwrap();
}

fn load_run(run: &mut Run<'_, f64>, path: &Path) {
    let (optimizer, mut variables) = run.parts();
    Checkpoint::open(path).unwrap().load(optimizer, &mut variables).unwrap();
}

/// Runs from the beginning to a step, and saves.
fn start(place: Where, what: What, end: u64, path: &Path) {
    ranks(place, what, |run| {
        run.run_to(end);
        save_run(run, path);
    });
}

/// Resumes from a checkpoint, up to the last step.
fn go_on(place: Where, what: What, from: &Path, path: &Path) {
    ranks(place, what, |run| {
        load_run(run, from);
        assert_eq!(run.opt.iterations(), STOP);
        run.run_to(STEPS);
        save_run(run, path);
    });
}

/// The contents of a checkpoint, as one process reads them.
type End = (Vec<ArrayD<f64>>, Vec<StateEntry<StateValue<'static, f64>>>);

fn end(what: What, path: &Path) -> End {
    let problem = what.on(None);
    let mut run = Run::new(&problem, None);
    Checkpoint::open(path).unwrap().verify().unwrap();
    load_run(&mut run, path);
    (run.values, run.opt.weights())
}

/// Compares the bits, or, if sums are in another order, within rounding errors.
fn compare(found: &End, want: &End, norms: bool, context: &str) {
    let names = |end: &End| end.1.iter().map(|weight| weight.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(found), names(want), "{context}");
    for (found, want) in found.0.iter().zip(&want.0) {
        close(found, want, norms, context);
    }
    for (StateEntry { name, value: found, .. }, StateEntry { value: want, .. }) in found.1.iter().zip(&want.1) {
        let context = format!("{name}: {context}");
        match (found, want) {
            (StateValue::Array(found), StateValue::Array(want)) => close(found, want, norms, &context),
            (StateValue::Scalar(found), StateValue::Scalar(want)) => {
                assert!(within_ulps(*found, *want, if norms { 4 * STEPS } else { 0 }), "{found} {want}: {context}");
            }
            (found, want) => assert_eq!(found, want, "{context}"),
        }
    }
}

/// Runs resume on any mesh, and end as runs that never stopped. If a run resumes where it was saved, it ends with the
/// same bits, even where the order of additions matters.
#[test]
fn runs_go_on_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let [half, whole, last] = ["half", "whole", "last"].map(|name| folder.path().join(name));
    for what in What::all() {
        let norms = what.on(None).has_norms();
        start(None, what, STEPS, &whole);
        let alone = end(what, &whole);
        std::fs::remove_file(&whole).unwrap();
        for from in everywhere() {
            start(from, what, STOP, &half);
            start(from, what, STEPS, &whole);
            let through = end(what, &whole);
            compare(&through, &alone, norms, &format!("{what:?} on {from:?}"));
            for to in everywhere() {
                go_on(to, what, &half, &last);
                let found = end(what, &last);
                compare(&found, &alone, norms, &format!("{what:?} from {from:?} to {to:?}"));
                if from == to {
                    assert_eq!(found, through, "{what:?} on {from:?}");
                }
                remove(&last);
            }
            remove(&half);
            remove(&whole);
        }
    }
}

fn remove(path: &Path) {
    if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
}
