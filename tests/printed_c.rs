//! Recorded steps, printed in C and compiled, give the engine's bits: for every rule, inside Lookahead and alone, with
//! the stages of the engine around it. Needs a C compiler: `cc`, or the one that the variable `CC` names.

use std::collections::{BTreeSet, HashMap};
use std::fmt::{Debug, Write as _};
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use half::{bf16, f16};
use opt_conformance::forms::{Builder, forms};
use opt_conformance::problem::Gradient;
use opt_conformance::recording::{Numbers, are_same, numbers, wild};
use optimizers::model::Half;
use optimizers::state::{DType, StateValue};
use optimizers::trace::{Array, Graph};
use optimizers::{Ema, Master, MomentStorage, Optimizer, RectifiedAdam, Scalar, Variable};

use crate::third_party::lion::Lion;

/// Not a multiple of a vector, of a row or of a block.
const ELEMENTS: usize = 2_003;
const STEPS: usize = 7;

/// A run of the printed function, and what the engine has made of the same numbers.
struct Case {
    kernel: usize,
    name: String,
    parameters: Vec<f64>,
    before: Vec<Vec<f64>>,
    after: Vec<Vec<f64>>,
}

#[derive(Default)]
struct Cases {
    kernels: HashMap<Graph, usize>,
    graphs: Vec<Graph>,
    cases: Vec<Case>,
}

impl Cases {
    /// Trains, and keeps each step that has a new graph.
    fn train<T: Scalar>(&mut self, builder: Builder<T>, name: &str, tame: bool) {
        let mut optimizer = builder.build().unwrap();
        let problem = wild(41, STEPS, ELEMENTS, tame);
        let mut variables = problem.start::<T>();
        optimizer.add_variables(&mut variables).unwrap();
        let mut seen = BTreeSet::new();
        for step in 0..STEPS {
            let of = problem.record(step, &mut optimizer, &mut variables).unwrap().remove(0);
            let before = numbers(&of, &optimizer, &variables);
            problem.step(step, &mut optimizer, &mut variables).unwrap();
            let after = numbers(&of, &optimizer, &variables);
            let kernel = self.kernel(&of.update.graph);
            if !seen.insert(kernel) {
                continue;
            }
            let Gradient::Dense(gradient) = &problem.steps[step][0] else { unreachable!("all are dense") };
            let values = |numbers: &Numbers<T>| {
                let values = |(array, _): (Array, bool)| match array {
                    Array::Gradient => gradient.iter().map(|g| T::literal(*g).as_()).collect(),
                    other => numbers[&other].iter().map(|number| number.as_()).collect(),
                };
                of.update.graph.arrays().into_iter().map(values).collect()
            };
            let name = format!("{name}, step {step}: {:?}", of.update.graph.arrays());
            let (before, after) = (values(&before), values(&after));
            self.cases.push(Case { kernel, name, parameters: of.update.parameters, before, after });
        }
    }

    fn train_all<T: Scalar>(&mut self) {
        for tame in [false, true] {
            for (name, builder) in forms::<T>() {
                self.train(builder, &name, tame);
            }
            let lion = Lion { learning_rate: 0.125.into(), ..Lion::default() };
            self.train::<T>(Optimizer::builder(lion).boxed().ema(Ema::new(0.75)), "a stranger's Lion", tame);
        }
    }

    /// Trains a variable in 16 bits.
    fn train_half<H: Half + Copy + Debug>(&mut self, master: Master, from: fn(u16) -> H, wide: fn(H) -> f32) {
        let name = format!("{:?} with {master:?}", from(0));
        let rule = RectifiedAdam::new(0.125);
        let builder = Optimizer::<_, f32>::builder(rule).master(master).moments(MomentStorage::Bf16 { seed: 5 });
        let mut optimizer = builder.ema(Ema::new(0.75).overwrite_every(3)).weight_decay(0.0625).build().unwrap();
        // Some are the largest number of f16, and would become a little larger, beside their decay.
        let is_largest = |i: usize| i % 17 == 3;
        let mut w: Vec<H> = (0..ELEMENTS).map(|i| from(if is_largest(i) { 0x7BFF } else { (i * 33) as u16 })).collect();
        optimizer.add_variables(&mut [Variable::half("v0", &mut w)]).unwrap();
        for step in 0..STEPS {
            let ordinary = |i: usize| ((i * 7 + step * 13) % 31) as f32 * 0.037 - 0.5;
            let g: Vec<f32> = (0..ELEMENTS).map(|i| if is_largest(i) { -4160.0 } else { ordinary(i) }).collect();
            if step == 4 {
                w.iter_mut().step_by(5).for_each(|w| *w = from(0x8000));
            }
            let of = optimizer.record([Variable::half("v0", &mut w).gradient(&g)]).unwrap().remove(0);
            let numbers = |optimizer: &Optimizer<RectifiedAdam>, w: &[H], array| match array {
                Array::Value => w.iter().map(|w| wide(*w).into()).collect(),
                Array::Gradient => g.iter().map(|g| f64::from(*g)).collect(),
                Array::Random(random) => (0..ELEMENTS).map(|i| of.draws.number(random, i).into()).collect(),
                Array::Slot(slot) => slot_numbers(optimizer, &of.slots[usize::from(slot)]),
                Array::Average => slot_numbers(optimizer, "average"),
                Array::Master => slot_numbers(optimizer, "master"),
                _ => slot_numbers(optimizer, "correction"),
            };
            let arrays = of.update.graph.arrays();
            let all = |optimizer: &_, w: &[H]| -> Vec<Vec<f64>> {
                arrays.iter().map(|(array, _)| numbers(optimizer, w, *array)).collect()
            };
            let before = all(&optimizer, &w);
            optimizer.apply_gradients([Variable::half("v0", &mut w).gradient(&g)]).unwrap();
            let after = all(&optimizer, &w);
            let kernel = self.kernel(&of.update.graph);
            let name = format!("{name}, step {step}: {arrays:?}");
            self.cases.push(Case { kernel, name, parameters: of.update.parameters, before, after });
        }
    }

    /// The number of the function of a graph.
    fn kernel(&mut self, graph: &Graph) -> usize {
        *self.kernels.entry(graph.clone()).or_insert_with_key(|graph| {
            self.graphs.push(graph.clone());
            self.graphs.len() - 1
        })
    }

    /// All functions, and a program that reads cases from a file and writes their arrays into another one.
    fn program(&self) -> String {
        let mut text = String::from("#include <stdio.h>\n#include <stdlib.h>\n");
        let mut calls = String::new();
        for (kernel, graph) in self.graphs.iter().enumerate() {
            text += &graph.to_c(&format!("step{kernel}"));
            let arrays: String = (0..graph.arrays().len()).map(|array| format!(", a[{array}]")).collect();
            writeln!(calls, "    case {kernel}: step{kernel}(n, p{arrays}); break;").unwrap();
        }
        text + "
static void *numbers(size_t count, size_t size, FILE *in) {
  void *all = malloc((count + 1) * size);
  if (!all || fread(all, size, count, in) != count) exit(2);
  return all;
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  FILE *in = fopen(argv[1], \"rb\"), *out = fopen(argv[2], \"wb\");
  unsigned long long head[5];
  if (!in || !out) return 2;
  while (fread(head, sizeof *head, 5, in) == 5) {
    size_t size = head[1], n = head[3], arrays = head[4];
    void *p = numbers(head[2], size, in), *a[16];
    for (size_t i = 0; i < arrays; i++) a[i] = numbers(n, size, in);
    switch (head[0]) {
" + &calls + "    default: return 2;
    }
    for (size_t i = 0; i < arrays; i++) {
      if (fwrite(a[i], size, n, out) != n) return 2;
      free(a[i]);
    }
    free(p);
  }
  return fclose(out) ? 2 : 0;
}
"
    }

    /// The numbers of all cases, as the program reads them.
    fn input(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for Case { kernel, parameters, before, .. } in &self.cases {
            let dtype = self.graphs[*kernel].dtype;
            let head = [*kernel, size(dtype), parameters.len(), ELEMENTS, before.len()];
            bytes.extend(head.into_iter().flat_map(|number| (number as u64).to_ne_bytes()));
            for number in parameters.iter().chain(before.iter().flatten()) {
                match dtype {
                    DType::F32 => bytes.extend((*number as f32).to_ne_bytes()),
                    _ => bytes.extend(number.to_ne_bytes()),
                }
            }
        }
        bytes
    }

    /// Compares what the program has written with the engine.
    fn compare(&self, mut output: &[u8]) {
        for Case { kernel, name, after, .. } in &self.cases {
            let size = size(self.graphs[*kernel].dtype);
            for (array, want) in after.iter().enumerate() {
                let (got, rest) = output.split_at(want.len() * size);
                output = rest;
                let number = |bytes: &[u8]| match size {
                    4 => f64::from(f32::from_ne_bytes(bytes.try_into().unwrap())),
                    _ => f64::from_ne_bytes(bytes.try_into().unwrap()),
                };
                for (element, (got, want)) in got.chunks(size).map(number).zip(want).enumerate() {
                    assert!(are_same(got, *want), "{name}: {got:e} instead of {want:e} in array {array} at {element}");
                }
            }
        }
        assert!(output.is_empty(), "{} bytes too many", output.len());
    }
}

/// The numbers of a slot.
fn slot_numbers(optimizer: &Optimizer<RectifiedAdam>, slot: &str) -> Vec<f64> {
    match optimizer.slot("v0", slot) {
        Ok(StateValue::Array(array)) => array.iter().map(|number| f64::from(*number)).collect(),
        Ok(StateValue::Bf16(array)) => array.iter().map(|number| number.to_f64()).collect(),
        other => panic!("{slot}: {other:?}"),
    }
}

fn size(dtype: DType) -> usize {
    if dtype == DType::F32 { 4 } else { 8 }
}

fn run(command: &mut Command) {
    let shown = format!("{command:?}");
    match command.output() {
        Err(error) => panic!("{shown}: {error}. This test compiles C: install a C compiler, or name one in CC"),
        Ok(output) => assert!(output.status.success(), "{shown}: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

#[test]
fn printed_c_has_the_bits_of_the_engine() {
    let mut cases = Cases::default();
    cases.train_all::<f32>();
    cases.train_all::<f64>();
    for master in [Master::Full, Master::Bits24 { seed: 3 }, Master::None { seed: 3 }] {
        cases.train_half(master, bf16::from_bits, bf16::to_f32);
        cases.train_half(master, f16::from_bits, f16::to_f32);
    }
    let folder = tempfile::tempdir().unwrap();
    let [source, program, input, output] = ["steps.c", "steps", "input", "output"].map(|name| folder.path().join(name));
    fs::write(&source, cases.program()).unwrap();
    fs::write(&input, cases.input()).unwrap();
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    let flags = ["-std=c99", "-O2", "-ffp-contract=off", "-o"];
    run(Command::new(compiler).args(flags).args([program.as_path(), &source, Path::new("-lm")]));
    run(Command::new(&program).args([&input, &output]));
    cases.compare(&fs::read(&output).unwrap());
    println!("{} functions, {} runs", cases.graphs.len(), cases.cases.len());
}
