//! The results as text.

#[cfg(test)]
pub(crate) mod samples;

use std::fmt::Write;
use std::fs;

use benches::record::Record;

use crate::compare::{Baseline, Change};
use crate::overheads::Overheads;

const TITLES: [&str; 9] =
    ["", "B/param", "ns/param", "noise", "GB/s", "bare ns", "ahead ns", "fraction", "in one round"];

const LEGEND: &str = "\
B/param: the fewest bytes a step must move. noise: half the distance of the quartiles. bare ns: a loop that only adds
over as many arrays, in turns with the contestant. ahead ns: the same loop with prefetches. fraction: (bytes / time)
over the same of the bare loop; then its lowest and highest value in one round. Indented: peers, and how many times
faster ours is.
";

type Row = Vec<String>;

/// All tables.
pub(crate) fn report(records: &[Record], overheads: Option<&Overheads>, baseline: Option<&Baseline>) -> String {
    let mut text = format!("{}\n\n{LEGEND}", machine());
    for group in records.chunk_by(is_same_group) {
        let Record { shape, tensors, params, dtype, threads, .. } = &group[0];
        let _ = writeln!(text, "\n{shape} ({tensors} tensors, {params} parameters), {dtype}, threads: {threads}");
        write_table(&mut text, group, baseline);
    }
    if let Some(overheads) = overheads {
        text += &overhead_lines(overheads);
    }
    text
}

fn is_same_group(a: &Record, b: &Record) -> bool {
    (&a.shape, &a.dtype, a.threads) == (&b.shape, &b.dtype, b.threads)
}

fn write_table(text: &mut String, group: &[Record], baseline: Option<&Baseline>) {
    let mut titles = TITLES.map(str::to_owned).to_vec();
    if baseline.is_some() {
        titles.push("against the baseline".to_owned());
    }
    let mut rows = vec![titles];
    for record in group {
        rows.push(row(record, group, baseline));
    }
    let columns = rows[0].len();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 => format!("{cell:width$}"),
            _ => format!("{cell:>width$}"),
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(text, "  {}", line.trim_end());
    }
}

fn row(record: &Record, group: &[Record], baseline: Option<&Baseline>) -> Row {
    let ours = group.iter().find(|other| other.rule == record.rule && other.peer.is_none());
    let name = match (&record.peer, ours) {
        (None, _) => record.rule.clone(),
        (Some(peer), None) => format!("  {peer}"),
        (Some(peer), Some(ours)) => format!("  {peer} ({:.2} x)", record.ns_per_param / ours.ns_per_param),
    };
    let [low, high] = record.fraction_range;
    let mut row = vec![
        name,
        format!("{:.2}", record.min_bytes_per_param),
        significant(record.ns_per_param),
        format!("{:.0} %", 100.0 * record.noise()),
        format!("{:.1}", record.bandwidth()),
        significant(record.bare_ns_per_param),
        record.ahead_ns_per_param.map_or(String::new(), significant),
        format!("{:.2}", record.fraction_of_bare_loop),
        format!("{low:.2}-{high:.2}"),
    ];
    if let Some(baseline) = baseline {
        row.push(baseline.change(record).map_or("new".to_owned(), change));
    }
    row
}

fn change(Change { time, fraction, is_clear }: Change) -> String {
    let verdict = if is_clear { "" } else { ", within the noise" };
    format!("time x {time:.2}, fraction x {fraction:.2}{verdict}")
}

/// Three digits, or more before the point.
fn significant(value: f64) -> String {
    match value {
        0.0..0.9995 => format!("{value:.3}"),
        0.9995..9.995 => format!("{value:.2}"),
        9.995..99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn overhead_lines(overheads: &Overheads) -> String {
    let Overheads { threads, fork_inside, fork_outside, fork_asleep, step, step_by_variable } = overheads;
    format!(
        "
A fork and join, {threads} threads: {} us inside of the pool, {} us from outside, {} us when the pool sleeps.
A step over one number: {} us; each further variable: {} us.
",
        significant(*fork_inside),
        significant(*fork_outside),
        significant(*fork_asleep),
        significant(*step),
        significant(*step_by_variable),
    )
}

/// The processor and the kernel's policy for huge pages, if Linux reports them.
fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pages = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let policy = pages.split_once('[').and_then(|(_, rest)| Some(rest.split_once(']')?.0));
    let (model, policy) = (model.map_or("unknown processor", |(_, model)| model), policy.unwrap_or("unknown"));
    format!("{model}, {cores} cores, transparent huge pages: {policy}")
}

#[cfg(test)]
mod tests {
    use super::samples::record;
    use super::*;

    #[test]
    fn peers_are_compared_with_ours() {
        let slow = Record { ns_per_param: 2.0, ..record("nadam", Some("torch: NAdam")) };
        let records = [record("nadam", None), slow];
        let text = report(&records, None, Some(&Baseline::new(vec![records[0].clone()])));
        let (_, table) = text.split_once("\n\n").unwrap().1.split_once("\n\n").unwrap();
        let expected = "\
10M (1 tensors, 10000000 parameters), f32, threads: 2
                          B/param  ns/param  noise  GB/s  bare ns  ahead ns  fraction  in one round               against the baseline
  nadam                     28.00     0.500    2 %  56.0    0.400     0.350      0.80     0.75-0.90  time x 1.00, fraction x 1.00, within the noise
    torch: NAdam (4.00 x)   28.00      2.00    1 %  14.0    0.400     0.350      0.80     0.75-0.90                                            new
";
        let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeeze(table), squeeze(expected));
        let widths: Vec<usize> = table.lines().skip(1).map(str::len).collect();
        assert!(widths.iter().all(|&width| width == widths[0]), "{table}");
    }

    #[test]
    fn groups_have_titles() {
        let other = Record { threads: 1, ..record("nadam", None) };
        let text = report(&[record("nadam", None), record("sgd", None), other], None, None);
        assert_eq!(text.matches("10M (1 tensors").count(), 2);
    }

    #[test]
    fn numbers_have_three_digits() {
        let texts = [0.1234, 0.9999, 1.234, 12.34, 1234.5].map(significant);
        assert_eq!(texts, ["0.123", "1.00", "1.23", "12.3", "1234"]);
    }

    #[test]
    fn overheads_are_told() {
        let overheads = Overheads {
            threads: 2,
            fork_inside: 0.5,
            fork_outside: 7.0,
            fork_asleep: 70.0,
            step: 0.25,
            step_by_variable: 0.125,
        };
        let text = report(&[], Some(&overheads), None);
        assert!(text.contains("0.500 us inside of the pool, 7.00 us from outside, 70.0 us when"), "{text}");
        assert!(text.contains("one number: 0.250 us; each further variable: 0.125 us"), "{text}");
    }
}
