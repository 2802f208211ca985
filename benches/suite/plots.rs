//! Plots of the results.

mod fractions;
mod scaling;
mod style;
mod times;

use benches::record::Record;

/// All plots for which there are enough records: names of files, and SVG.
pub(crate) fn all(records: &[Record]) -> anyhow::Result<Vec<(String, String)>> {
    let mut pictures = Vec::new();
    let mut groups: Vec<(&str, usize)> = records.iter().map(group).collect();
    groups.sort_unstable();
    groups.dedup();
    for (dtype, threads) in groups {
        let records: Vec<&Record> = records.iter().filter(|record| group(record) == (dtype, threads)).collect();
        let mut add = |kind: &str, svg| pictures.push((format!("{kind}-{dtype}-{threads}.svg"), svg));
        let title = format!("{dtype}, threads: {threads}");
        add("fractions", fractions::svg(&records, &title)?);
        if let Some(svg) = scaling::svg(&records, &title)? {
            add("scaling", svg);
        }
        for (shape, svg) in times::by_shape(&records, &title)? {
            add(&format!("times-{shape}"), svg);
        }
    }
    Ok(pictures)
}

fn group(record: &Record) -> (&str, usize) {
    (&record.dtype, record.threads)
}

/// Values in the order in which they first appear.
fn distinct<'a>(values: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found = Vec::new();
    for value in values {
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::samples::record;

    fn names(records: &[Record]) -> Vec<String> {
        all(records).unwrap().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn there_is_a_picture_for_each_type_and_number_of_threads() {
        assert!(names(&[]).is_empty());
        let alone = Record { threads: 1, ..record("nadam", None) };
        let records = [record("nadam", None), alone, record("sgd", None)];
        assert_eq!(names(&records), ["fractions-f32-1.svg", "fractions-f32-2.svg"]);
    }

    #[test]
    fn peers_have_pictures_of_times() {
        let records = [record("nadam", None), record("nadam", Some("torch: NAdam foreach"))];
        let pictures = all(&records).unwrap();
        let (_, svg) = pictures.iter().find(|(name, _)| name == "times-10M-f32-2.svg").unwrap();
        assert!(svg.contains("torch: NAdam foreach") && svg.contains("nadam"), "{svg}");
    }

    #[test]
    fn sizes_make_curves() {
        let sized = |params| Record { params, ..record("nadam", None) };
        let records: Vec<Record> = [3, 4, 5, 6, 7].map(|digits| sized(10_usize.pow(digits))).into();
        let pictures = all(&records).unwrap();
        let (_, svg) = pictures.iter().find(|(name, _)| name == "scaling-f32-2.svg").unwrap();
        assert!(svg.contains("nadam") && !svg.contains("NaN"), "{svg}");
        assert_eq!(names(&records[..4]), ["fractions-f32-2.svg"]);
    }
}
