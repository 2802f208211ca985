//! Variables in 16 bits and their masters are restored bit for bit.

use std::io::Cursor;

use half::{bf16, f16};
use opt_checkpoint::{Checkpoint, Contents, Error, LoadOptions, Mismatch, SaveOptions};
use opt_core::state::StateValue;
use opt_core::{Ema, MomentStorage, Optimizer, Variable};
use opt_lookahead::Lookahead;
use opt_radam::RectifiedAdam;

type Rule = Lookahead<RectifiedAdam>;

const STEPS: usize = 9;

/// Variables of all three types.
#[derive(Debug, Clone)]
struct Training {
    opt: Optimizer<Rule, f32>,
    a: Vec<bf16>,
    b: Vec<f16>,
    c: Vec<f32>,
}

impl Training {
    fn new(moments: MomentStorage) -> Self {
        let rule = Lookahead::new(RectifiedAdam::new(0.01).beta_2(0.75)).sync_period(2);
        let opt = Optimizer::builder(rule).ema(Ema::new(0.75)).weight_decay(0.01).moments(moments).build().unwrap();
        let numbers = |key: f32| (0..37).map(move |i| (key + i as f32).sin());
        Self {
            opt,
            a: numbers(1.0).map(bf16::from_f32).collect(),
            b: numbers(2.0).map(f16::from_f32).collect(),
            c: numbers(3.0).collect(),
        }
    }

    fn run(&mut self, steps: std::ops::Range<usize>) {
        for step in steps {
            let gradient = |key: usize| (0..37).map(|i| ((key * 41 + step * 7 + i) as f32).cos()).collect::<Vec<_>>();
            let [a, b, c] = [1, 2, 3].map(gradient);
            let Self { opt, a: va, b: vb, c: vc } = self;
            let variables = [
                Variable::half("a", va).gradient(&a),
                Variable::half("b", vb).gradient(&b),
                Variable::new("c", vc).gradient(&c),
            ];
            opt.apply_gradients(variables).unwrap();
        }
    }

    fn parts(&mut self) -> (&mut Optimizer<Rule, f32>, [Variable<'_, f32>; 3]) {
        let Self { opt, a, b, c } = self;
        (opt, [Variable::half("a", a), Variable::half("b", b), Variable::new("c", c)])
    }

    fn saved(&mut self) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        let (opt, variables) = self.parts();
        SaveOptions::new().write(&mut file, opt, &variables).unwrap();
        file.into_inner()
    }
}

fn checkpoint(steps: usize) -> (Training, Checkpoint) {
    let mut training = Training::new(MomentStorage::Full);
    training.run(0..steps);
    let checkpoint = Checkpoint::from_bytes(training.saved()).unwrap();
    (training, checkpoint)
}

#[test]
fn a_run_goes_on_to_the_bit() {
    for moments in [MomentStorage::Full, MomentStorage::Bf16 { seed: 9 }, MomentStorage::Float8 { seed: 9 }] {
        let mut through = Training::new(moments);
        through.run(0..STEPS);
        let want = through.saved();
        for stop in 0..=STEPS {
            let mut first = Training::new(moments);
            first.run(0..stop);
            let checkpoint = Checkpoint::from_bytes(first.saved()).unwrap();
            let mut second = Training::new(moments);
            (second.a, second.b, second.c) = (vec![bf16::ONE; 37], vec![f16::ONE; 37], vec![1.0; 37]);
            let (opt, mut variables) = second.parts();
            checkpoint.load(opt, &mut variables).unwrap();
            assert_eq!((&second.a, &second.b, &second.c), (&first.a, &first.b, &first.c));
            assert_eq!(second.opt.weights(), first.opt.weights());
            second.run(stop..STEPS);
            assert!(second.saved() == want, "stopped at {stop}, {moments:?}");
        }
    }
}

#[test]
fn the_file_has_16_bits_and_the_masters() {
    let (mut training, checkpoint) = checkpoint(3);
    let dtype = |name: &str| checkpoint.tensors().find(|tensor| tensor.name == name).map(|tensor| tensor.dtype);
    let dtypes = ["a", "b", "c", "a/master", "b/master", "a/slow", "b/average"].map(|name| dtype(name).unwrap());
    assert_eq!(dtypes, ["BF16", "F16", "F32", "F32", "F32", "F32", "F32"]);
    assert_eq!(dtype("c/master"), None);
    let file = training.saved();
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    let bytes: Vec<u8> = training.b.iter().flat_map(|number| number.to_le_bytes()).collect();
    assert_eq!(tensors.tensor("b").unwrap().data(), bytes);
}

#[test]
fn bits_that_are_no_number_come_back() {
    let mut training = Training::new(MomentStorage::Full);
    let odd = [0x7F81_u16, 0xFFC1, 0x7F80, 0x8000, 0x0001, 0xFF80, 0x7FFF];
    training.a = odd.map(bf16::from_bits).to_vec();
    training.b = [0x7C01, 0xFE01, 0x7C00, 0x8000, 0x0001, 0xFC00, 0x7FFF].map(f16::from_bits).to_vec();
    let checkpoint = Checkpoint::from_bytes(training.saved()).unwrap();
    let mut loaded = Training::new(MomentStorage::Full);
    (loaded.a, loaded.b) = (vec![bf16::ZERO; 7], vec![f16::ZERO; 7]);
    let (opt, mut variables) = loaded.parts();
    checkpoint.load(opt, &mut variables).unwrap();
    assert_eq!(loaded.a.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), odd);
    assert!(loaded.b.iter().zip(&training.b).all(|(a, b)| a.to_bits() == b.to_bits()));
}

#[test]
fn other_types_are_refused() {
    let (_, checkpoint) = checkpoint(2);
    let mut wrong = Training::new(MomentStorage::Full);
    let before = wrong.clone();
    let (mut full, mut swapped) = (vec![0.0_f32; 37], vec![bf16::ONE; 37]);
    let mut variables =
        [Variable::new("a", &mut full), Variable::half("b", &mut swapped), Variable::new("c", &mut wrong.c)];
    let Error::Mismatch { mismatches, .. } = checkpoint.load(&mut wrong.opt, &mut variables).unwrap_err() else {
        panic!()
    };
    let other = |name: &str, expected: &str, found: &str| {
        let [name, expected, found] = [name, expected, found].map(str::to_owned);
        Mismatch::DType { name, expected, found }
    };
    assert_eq!(mismatches[..2], [other("a", "F32", "BF16"), other("b", "BF16", "F16")]);
    assert_eq!(mismatches[2..], [Mismatch::Unexpected { name: "a/master".to_owned() }]);
    assert_eq!((wrong.c, swapped[0], wrong.opt.iterations()), (before.c, bf16::ONE, 0));
}

#[test]
fn parts_and_variables_alone() {
    let (saved, checkpoint) = checkpoint(4);
    let mut other = Training::new(MomentStorage::Full);
    other.run(0..1);
    let before = other.clone();
    let (opt, mut variables) = other.parts();
    LoadOptions::new().only("^a").unwrap().load(&checkpoint, opt, &mut variables).unwrap();
    assert_eq!((&other.a, &other.b), (&saved.a, &before.b));
    assert_eq!(other.opt.slot("a", "master"), saved.opt.slot("a", "master"));
    assert_eq!(other.opt.slot("b", "master"), before.opt.slot("b", "master"));
    let mut model = Training::new(MomentStorage::Full);
    checkpoint.load_variables(&mut model.parts().1).unwrap();
    assert_eq!((model.a, model.b, model.c), (saved.a, saved.b, saved.c));
}

/// Averages keep their digits: they are loaded into variables of 32 bits.
#[test]
fn averages_are_saved_in_32_bits() {
    let mut training = Training::new(MomentStorage::Full);
    training.run(0..3);
    let mut file = Cursor::new(Vec::new());
    let (opt, variables) = training.parts();
    SaveOptions::new().contents(Contents::Averaged).write(&mut file, opt, &variables).unwrap();
    let checkpoint = Checkpoint::from_bytes(file.into_inner()).unwrap();
    let mut wide = [[0.0_f32; 37]; 3];
    let [a, b, c] = &mut wide;
    checkpoint.load_variables(&mut [Variable::new("a", a), Variable::new("b", b), Variable::new("c", c)]).unwrap();
    for (name, wide) in ["a", "b", "c"].into_iter().zip(&wide) {
        let StateValue::Array(average) = training.opt.slot(name, Ema::SLOT).unwrap() else { panic!("{name}") };
        assert!(average.iter().eq(wide), "{name}");
    }
    let error = checkpoint.load_variables(&mut training.parts().1).unwrap_err().to_string();
    assert!(error.contains(r#""a" has type F32, expected BF16"#), "{error}");
}
