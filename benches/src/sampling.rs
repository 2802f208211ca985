//! The order in which subjects are timed, and the statistics of the times.
//!
//! Subjects that are compared take turns: in each round every subject has a slice of time. A slice starts with steps
//! that are not counted, because the subjects before it have used the caches. A sample is the mean over whole cycles,
//! of at least about a millisecond.

use std::time::{Duration, Instant};

/// A subject whose steps can be timed, here or in another process.
pub trait Subject {
    /// Runs `steps` steps, one after the other, and returns how long they took together.
    ///
    /// # Errors
    ///
    /// When a step or the other process fails.
    fn run(&mut self, steps: usize) -> anyhow::Result<Duration>;

    /// Waits until spinning threads of the subject have gone to sleep.
    fn settle(&self) {}
}

/// A subject of this process.
#[derive(Debug)]
pub struct Local<F>(pub F);

impl<F: FnMut() -> anyhow::Result<()>> Subject for Local<F> {
    fn run(&mut self, steps: usize) -> anyhow::Result<Duration> {
        let start = Instant::now();
        for _ in 0..steps {
            (self.0)()?;
        }
        Ok(start.elapsed())
    }
}

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// The number of rounds.
    pub rounds: usize,
    /// The time of a turn; at least one sample is taken.
    pub slice: Duration,
    /// The shortest sample.
    pub sample: Duration,
    /// Steps before anything is timed: state is allocated, and rules are past their first steps.
    pub warm_up: usize,
}

impl Effort {
    /// For results that are recorded.
    pub const FULL: Self =
        Self { rounds: 11, slice: Duration::from_millis(25), sample: Duration::from_micros(500), warm_up: 8 };

    /// For a first impression.
    pub const QUICK: Self = Self { rounds: 5, slice: Duration::from_millis(15), ..Self::FULL };
}

/// The measurements of one subject: nanoseconds per step, round by round.
#[derive(Debug, Clone, PartialEq)]
pub struct Times {
    rounds: Vec<Vec<f64>>,
}

/// Times subjects in turns. Each sample is a multiple of `cycle` steps.
///
/// # Errors
///
/// When a subject fails.
pub fn interleave(subjects: &mut [&mut dyn Subject], cycle: usize, effort: &Effort) -> anyhow::Result<Vec<Times>> {
    let mut steps = Vec::with_capacity(subjects.len());
    for subject in &mut *subjects {
        subject.run(effort.warm_up.next_multiple_of(cycle))?;
        steps.push(calibrate(*subject, cycle, effort)?);
        subject.settle();
    }
    let mut times = vec![Times { rounds: Vec::new() }; subjects.len()];
    for _ in 0..effort.rounds {
        for ((subject, times), &steps) in subjects.iter_mut().zip(&mut times).zip(&steps) {
            times.rounds.push(slice(*subject, steps, effort)?);
            subject.settle();
        }
    }
    Ok(times)
}

/// The number of steps in a sample.
fn calibrate(subject: &mut dyn Subject, cycle: usize, effort: &Effort) -> anyhow::Result<usize> {
    let mut steps = cycle;
    loop {
        let took = subject.run(steps)?;
        if took >= effort.sample || steps >= 1 << 24 {
            return Ok(steps);
        }
        let factor = effort.sample.as_secs_f64() / took.as_secs_f64().max(1e-9);
        steps *= (factor.ceil() as usize).clamp(2, 64);
    }
}

/// One turn of one subject: nanoseconds per step, sample by sample.
fn slice(subject: &mut dyn Subject, steps: usize, effort: &Effort) -> anyhow::Result<Vec<f64>> {
    subject.run(steps.min(2))?;
    let (mut samples, mut spent) = (Vec::new(), Duration::ZERO);
    while samples.is_empty() || spent < effort.slice {
        let took = subject.run(steps)?;
        samples.push(took.as_secs_f64() * 1e9 / steps as f64);
        spent += took;
    }
    Ok(samples)
}

impl Times {
    /// Nanoseconds per step, round by round.
    #[must_use]
    pub fn new(rounds: Vec<Vec<f64>>) -> Self {
        Self { rounds }
    }

    /// The median over all samples.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// A quantile over all samples, between 0 and 1.
    #[must_use]
    pub fn quantile(&self, at: f64) -> f64 {
        quantile(self.rounds.iter().flatten().copied().collect(), at)
    }

    /// The number of samples.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.rounds.iter().map(Vec::len).sum()
    }

    /// The median of each round. A disturbance of the machine that is longer than a round shows here.
    pub fn round_medians(&self) -> impl Iterator<Item = f64> {
        self.rounds.iter().map(|samples| quantile(samples.clone(), 0.5))
    }
}

/// A quantile between 0 and 1, interpolated; NaN for an empty list.
#[must_use]
pub fn quantile(mut samples: Vec<f64>, at: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let Some(last) = samples.len().checked_sub(1) else { return f64::NAN };
    let place = at * last as f64;
    let (below, above) = (samples[place.floor() as usize], samples[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[derive(Debug)]
    struct Fake<'a> {
        name: char,
        step: Duration,
        log: &'a RefCell<Vec<(char, usize)>>,
    }

    impl Subject for Fake<'_> {
        fn run(&mut self, steps: usize) -> anyhow::Result<Duration> {
            self.log.borrow_mut().push((self.name, steps));
            Ok(self.step * steps as u32)
        }
    }

    const EFFORT: Effort =
        Effort { rounds: 3, slice: Duration::from_millis(2), sample: Duration::from_millis(1), warm_up: 8 };

    #[test]
    fn quantiles_are_interpolated() {
        let samples = vec![4.0, 1.0, 3.0, 2.0];
        assert_eq!([0.0, 0.5, 1.0].map(|at| quantile(samples.clone(), at)), [1.0, 2.5, 4.0]);
        assert!(quantile(Vec::new(), 0.5).is_nan());
    }

    #[test]
    fn subjects_take_turns_in_whole_cycles() {
        let log = RefCell::new(Vec::new());
        let mut fast = Fake { name: 'f', step: Duration::from_micros(1), log: &log };
        let mut slow = Fake { name: 's', step: Duration::from_millis(5), log: &log };
        let times = interleave(&mut [&mut fast, &mut slow], 6, &EFFORT).unwrap();
        assert_eq!(times.iter().map(Times::median).collect::<Vec<_>>(), [1e3, 5e6]);
        assert_eq!(times[0].round_medians().collect::<Vec<_>>(), [1e3; 3]);
        assert_eq!(times[1].samples(), 3);

        let log = log.into_inner();
        let mut turns: Vec<char> = log.iter().map(|(name, _)| *name).collect();
        turns.dedup();
        assert_eq!(turns.into_iter().collect::<String>(), "fsfsfsfs");
        assert!(log.iter().all(|(_, steps)| *steps == 2 || steps % 6 == 0), "{log:?}");
        assert!(log.iter().any(|(name, steps)| *name == 'f' && *steps >= 1_000));
    }

    #[test]
    fn a_failing_subject_ends_it() {
        let mut bad = Local(|| anyhow::bail!("no gradient"));
        assert_eq!(interleave(&mut [&mut bad], 1, &EFFORT).unwrap_err().to_string(), "no gradient");
    }
}
