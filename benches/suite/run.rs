//! Runs the plan, one list of tensors after the other.

use std::cell::RefCell;

use anyhow::{Context, ensure};
use benches::Element;
use benches::bare::{Arrays, Bare, Turns};
use benches::contestants::{Contestant, contestants};
use benches::model::Model;
use benches::record::{Record, Setting};
use benches::sampling::{Local, Subject, interleave};
use indicatif::ProgressBar;

use crate::peers::Peers;
use crate::plan::{Case, Plan};
use crate::progress;

/// Measures all of it.
pub(crate) fn all(plan: &Plan, peers: &Peers) -> anyhow::Result<Vec<Record>> {
    let of_case = |case| settings_of::<f32>(plan, case).count() + settings_of::<f64>(plan, case).count();
    let bar = progress::bar(plan.cases.iter().map(of_case).sum())?;
    let mut records = Vec::new();
    for case in &plan.cases {
        of_type::<f32>(plan, case, peers, &bar, &mut records)?;
        of_type::<f64>(plan, case, peers, &bar, &mut records)?;
    }
    bar.finish_and_clear();
    Ok(records)
}

/// The measurements on one list of tensors in one type.
fn settings_of<'a, T: Element>(plan: &'a Plan, case: &'a Case) -> impl Iterator<Item = (Contestant<T>, Setting<'a>)> {
    let threads = case.threads.iter().filter(|_| case.dtypes.contains(&T::NAME));
    let all = threads.flat_map(|&threads| contestants::<T>().into_iter().map(move |contestant| (contestant, threads)));
    let settings = all.map(|(contestant, threads)| {
        let bytes = contestant.traffic.min_bytes_per_param(&case.shape, size_of::<T>());
        (contestant, Setting { rule: contestant.name, shape: &case.shape, dtype: T::NAME, threads, bytes })
    });
    settings.filter(|(contestant, setting)| case.has(contestant.name) && plan.wants(&setting.id()))
}

fn of_type<T: Element>(
    plan: &Plan,
    case: &Case,
    peers: &Peers,
    bar: &ProgressBar,
    records: &mut Vec<Record>,
) -> anyhow::Result<()> {
    let settings: Vec<_> = settings_of::<T>(plan, case).collect();
    if settings.is_empty() {
        return Ok(());
    }
    let (mut model, mut arrays) = (Model::<T>::new(&case.shape), Arrays::<T>::new(&case.shape));
    for (contestant, setting) in settings {
        bar.set_message(setting.id());
        let measured = one(plan, &contestant, &setting, peers, &mut model, &mut arrays);
        records.extend(measured.with_context(|| setting.id())?);
        bar.inc(1);
    }
    Ok(())
}

/// Our contestant, the bare loops, and peers, in turns.
fn one<T: Element>(
    plan: &Plan,
    contestant: &Contestant<T>,
    setting: &Setting<'_>,
    peers: &Peers,
    model: &mut Model<T>,
    arrays: &mut Arrays<T>,
) -> anyhow::Result<Vec<Record>> {
    let takes_peers = T::NAME == "f32" && setting.threads == plan.most_threads;
    let mut guests = if takes_peers { peers.open(setting)? } else { Vec::new() };

    let mut optimizer = contestant.build(setting.threads)?;
    let bare = RefCell::new(Bare::new(arrays, contestant.traffic, setting.threads)?);
    let [mut floor, mut ahead] = [false, true].map(|ahead| Turns { bare: &bare, ahead });
    let mut ours = Local(|| {
        model.step(&mut optimizer, contestant.traffic.halves)?;
        Ok(())
    });
    let mut subjects: Vec<&mut dyn Subject> = vec![&mut floor, &mut ahead, &mut ours];
    subjects.extend(guests.iter_mut().map(|guest| guest as &mut dyn Subject));
    let times = interleave(&mut subjects, contestant.traffic.cycle(), &plan.effort)?;

    ensure!(model.is_finite(), "weights are not finite any more");
    let names = [None].into_iter().chain(guests.iter().map(|guest| Some(guest.name.clone())));
    Ok(names.zip(&times[2..]).map(|(name, ours)| setting.record(name, ours, &times[0], &times[1])).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::process::Command;
    use std::time::Duration;

    use benches::sampling::Effort;
    use benches::shapes::Shape;
    use regex::Regex;

    use super::*;

    /// A peer that takes a second for each call, and cannot open `broken`.
    const PEER: &str = r#"
        echo '{"hello":{"name":"sh","contestants":[{"id":"slow","rule":"nadam","name":"sleeper"},
            {"id":"broken","rule":"nadam","name":"cripple"},
            {"id":"slow","rule":"nadam","name":"hermit","max_tensors":1}]}}' | tr -d '\n'
        echo
        while read -r line; do
            case "$line" in
                *broken*) echo '{"error":{"message":"no"}}' ;;
                *open*) echo '{"opened":{"subject":7}}' ;;
                *run*) echo '{"ran":{"ns":1000000000}}' ;;
                *) echo '{"closed":{}}' ;;
            esac
        done"#;

    fn plan(filter: &str) -> Plan {
        let case = Case { shape: Shape::many(2, 50), dtypes: &["f32", "f64"], threads: &[1, 2], scaling: false };
        let (slice, sample) = (Duration::from_micros(50), Duration::from_micros(10));
        Plan {
            cases: vec![case],
            effort: Effort { rounds: 2, slice, sample, warm_up: 1 },
            with_overheads: false,
            filter: Some(Regex::new(filter).unwrap()),
            most_threads: 2,
        }
    }

    #[test]
    fn everything_is_measured_once() {
        let records = all(&plan(""), &Peers::of([]).unwrap()).unwrap();
        let keys: BTreeSet<_> = records.iter().map(Record::key).collect();
        let expected = 2 * (contestants::<f32>().len() + contestants::<f64>().len());
        assert_eq!((records.len(), keys.len()), (expected, expected));
        assert!(records.iter().all(|record| record.fraction_of_bare_loop > 0.0 && record.ns_per_param > 0.0));
        let clip = records.iter().find(|record| record.rule == "clip-nadam" && record.dtype == "f64").unwrap();
        assert_eq!((clip.min_bytes_per_param, clip.bare_bytes_per_param), (64.0, 64.0));
    }

    #[test]
    fn peers_take_part_where_they_can() {
        let mut shell = Command::new("sh");
        shell.args(["-c", PEER]);
        let records = all(&plan("^(nadam|radam)/"), &Peers::of([shell]).unwrap()).unwrap();
        let peers: Vec<&Record> = records.iter().filter(|record| record.peer.is_some()).collect();
        let [peer] = peers[..] else { panic!("{peers:?}") };
        let setting = (peer.rule.as_str(), peer.dtype.as_str(), peer.threads);
        assert_eq!((setting, peer.peer.as_deref()), (("nadam", "f32", 2), Some("sh: sleeper")));
        assert_eq!(peer.ns_per_param, 1e9 / 100.0);
        assert_eq!(records.len(), 8 + 1);
    }
}
