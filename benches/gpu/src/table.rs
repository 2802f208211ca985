//! The report as Markdown.

use std::fmt::Write;

use crate::parity::Compared;
use crate::results::Results;
use crate::speed::Row;
use crate::torch::{Answer, Mode, Times};

const LEGEND: &str = "\
B/param: arrays read and written, the gradient once more for a norm. of copy: the fraction of the bandwidth of a copy.
Arrays that fit into the device's cache can be faster than it. launches: for each step; measuring norms is one.
host us: the time in which the CPU has started a step. The device computes meanwhile, unless norms are measured.
";

const TORCH_LEGEND: &str = "torch: ns/param of PyTorch's optimizer, and how many times as long it takes as ours.\n";

/// The trainings.
pub(crate) fn parity(device: &str, compared: &[Compared]) -> String {
    let mut text = format!("# {device}\n\nThe device against the CPU, after each step:\n\n");
    for one in compared {
        let _ = writeln!(text, "* {}, {}: {}", one.training, one.dtype, difference(one));
    }
    let same = compared.iter().filter(|one| one.difference.is_none()).count();
    let broken = compared.iter().filter(|one| !one.is_kept).count();
    let _ = writeln!(text, "\n{} trainings: {same} with the same bits, {broken} FAILED\n", compared.len());
    text
}

fn difference(compared: &Compared) -> String {
    let Some(difference) = &compared.difference else { return format!("same bits in {} steps", compared.steps) };
    let verdict = if compared.is_kept { "" } else { "FAILED: " };
    format!("{verdict}{:.2} units in the last place ({})", difference.units, difference.place)
}

/// The times.
pub(crate) fn times(results: &Results) -> String {
    let copy = &results.copy;
    let mut text = format!("A copy of {} numbers of 32 bits: {:.1} GB/s.\n\n", copy.elements, copy.gb_per_s);
    let torch = match &results.torch {
        Some(Answer::Times(times)) => {
            let _ = writeln!(text, "PyTorch {} on {}.\n", times.torch, times.device);
            Some(times)
        }
        Some(Answer::Missing { missing }) => {
            let _ = writeln!(text, "PyTorch was not timed: {missing}\n");
            None
        }
        None => None,
    };
    text += "| shape | rule | us/step | host us | ns/param | B/param | GB/s | of copy | launches |";
    text += if torch.is_some() { " torch fused | torch foreach |\n" } else { "\n" };
    let columns = if torch.is_some() { 11 } else { 9 };
    let _ = writeln!(text, "|---|---|{}", "--:|".repeat(columns - 2));
    for row in &results.rows {
        text += &line(row, torch);
    }
    let _ = write!(text, "\n{LEGEND}{}\n", if torch.is_some() { TORCH_LEGEND } else { "" });
    let ours = results.left_out.iter().map(|out| (format!("{}, {}", out.rule, out.shape), &out.reason));
    let theirs = torch.into_iter().flat_map(|times| &times.left_out);
    let theirs = theirs.map(|out| (format!("PyTorch's {}, {}, {:?}", out.rule, out.shape, out.mode), &out.reason));
    for (what, reason) in ours.chain(theirs) {
        let _ = writeln!(text, "Left out: {what}: {reason}.");
    }
    let _ = writeln!(text, "This took {:.0} s.", results.seconds);
    text
}

fn line(row: &Row, torch: Option<&Times>) -> String {
    let mut line = format!(
        "| {} | {} | {:.1} | {:.1} | {:.5} | {:.2} | {:.1} | {:.2} | {} |",
        row.shape,
        row.rule,
        row.ns_per_param * row.params as f64 / 1e3,
        row.host_us,
        row.ns_per_param,
        row.bytes_per_param,
        row.gb_per_s,
        row.fraction_of_copy,
        row.launches,
    );
    for mode in [Mode::Fused, Mode::Foreach].into_iter().filter(|_| torch.is_some()) {
        let theirs = torch.and_then(|times| times.of(&row.rule, &row.shape, mode));
        let cell = theirs.map_or(String::new(), |ns| format!("{ns:.5} ({:.2} x)", ns / row.ns_per_param));
        let _ = write!(line, " {cell} |");
    }
    line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parity::Difference;
    use crate::speed::{CopySpeed, LeftOut};
    use crate::torch;

    fn report(torch: Option<Answer>) -> Results {
        let row = Row {
            rule: "adam".to_owned(),
            shape: "10M".to_owned(),
            tensors: 1,
            params: 10_000_000,
            ns_per_param: 0.01,
            ns_per_param_quartiles: [0.01, 0.02],
            samples: 7,
            host_us: 2.5,
            bytes_per_param: 28.0,
            gb_per_s: 2800.0,
            fraction_of_copy: 0.7,
            launches: 1.0,
        };
        let out = LeftOut { rule: "sgd".to_owned(), shape: "100M".to_owned(), reason: "no memory".to_owned() };
        Results {
            device: "GPU".to_owned(),
            parity: Vec::new(),
            copy: CopySpeed { elements: 100, gb_per_s: 4000.0 },
            rows: vec![row],
            left_out: vec![out],
            torch,
            seconds: 60.0,
        }
    }

    #[test]
    fn rows_have_as_many_cells_as_titles() {
        let row = torch::Row { rule: "adam".into(), shape: "10M".into(), mode: Mode::Fused, ns_per_param: 0.02 };
        let times = Times { torch: "2.9".to_owned(), device: "GPU".to_owned(), rows: vec![row], left_out: Vec::new() };
        let missing = Answer::Missing { missing: "no torch".to_owned() };
        for (torch, cells) in [(None, 9), (Some(missing), 9), (Some(Answer::Times(times)), 11)] {
            let text = super::times(&report(torch));
            let lines: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
            assert_eq!(lines.len(), 3);
            assert!(lines.iter().all(|line| line.matches('|').count() == cells + 1), "{text}");
            assert!(
                lines[2].starts_with("| 10M | adam | 100.0 | 2.5 | 0.01000 | 28.00 | 2800.0 | 0.70 | 1 |"),
                "{text}"
            );
            assert_eq!(lines[2].contains("0.02000 (2.00 x) |  |"), cells == 11);
            assert!(text.contains("Left out: sgd, 100M: no memory."), "{text}");
        }
    }

    #[test]
    fn differences_are_told() {
        let same = Compared { training: "Adam".into(), dtype: "f32", steps: 8, difference: None, is_kept: true };
        let difference = Some(Difference { units: 1.5, place: "step 2, w[3]".to_owned() });
        let other = Compared { difference, is_kept: false, ..same.clone() };
        let text = parity("GPU", &[same, other]);
        assert!(text.contains("* Adam, f32: same bits in 8 steps\n"), "{text}");
        assert!(text.contains("* Adam, f32: FAILED: 1.50 units in the last place (step 2, w[3])\n"), "{text}");
        assert!(text.contains("2 trainings: 1 with the same bits, 1 FAILED"), "{text}");
    }
}
