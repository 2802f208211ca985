//! Everything in the plan, one list of tensors after the other.

use anyhow::{Context, ensure};
use benches::Element;
use benches::bare::{Arrays, Bare};
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

/// What is measured on one list of tensors in one type.
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

/// Ours, the bare loop, and peers, in turns.
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
    let mut floor = Bare::new(arrays, contestant.traffic, setting.threads)?;
    let mut ours = Local(|| {
        optimizer.apply_gradients(model.variables())?;
        Ok(())
    });
    let mut subjects: Vec<&mut dyn Subject> = vec![&mut floor, &mut ours];
    subjects.extend(guests.iter_mut().map(|guest| guest as &mut dyn Subject));
    let times = interleave(&mut subjects, contestant.traffic.cycle(), &plan.effort)?;

    ensure!(model.is_finite(), "weights are not finite any more");
    let names = [None].into_iter().chain(guests.iter().map(|guest| Some(guest.name.clone())));
    Ok(names.zip(&times[1..]).map(|(name, ours)| setting.record(name, ours, &times[0])).collect())
}
