//! The classes that configurations may name, and the crates that define them.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use opt_core::config::HyperparameterSpec;

use crate::workspace::{Package, Workspace};

/// The registered classes.
#[derive(Debug)]
pub(super) struct Classes {
    pub(super) rules: Vec<Class>,
    pub(super) schedules: Vec<Class>,
}

/// A class of the registry.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) name: String,
    /// The package that defines it.
    pub(super) package: String,
    pub(super) specs: Vec<HyperparameterSpec>,
}

/// The package with all schedules.
pub(super) const SCHEDULES: &str = "opt-schedules";

impl Classes {
    /// Everything that the umbrella registers.
    pub(super) fn registered(workspace: &Workspace) -> anyhow::Result<Self> {
        let registry = optimizers::registry::<f64>();
        let rule = |name: &str| Class::rule(workspace, name, registry.hyperparameters(name));
        let schedules = registry.schedules();
        Ok(Self {
            rules: registry.class_names().map(rule).collect::<anyhow::Result<_>>()?,
            schedules: schedules.class_names().map(|n| Class::schedule(n, schedules.hyperparameters(n))).collect(),
        })
    }

    /// All classes.
    pub(super) fn all(&self) -> impl Iterator<Item = &Class> {
        self.rules.iter().chain(&self.schedules)
    }
}

impl Class {
    fn rule(workspace: &Workspace, name: &str, specs: Vec<HyperparameterSpec>) -> anyhow::Result<Self> {
        Ok(Self { name: name.to_owned(), package: find(workspace, name)?.name.clone(), specs })
    }

    fn schedule(name: &str, specs: Vec<HyperparameterSpec>) -> Self {
        Self { name: name.to_owned(), package: SCHEDULES.to_owned(), specs }
    }
}

/// The package whose `src/config.rs` defines a class.
fn find<'a>(workspace: &'a Workspace, class: &str) -> anyhow::Result<&'a Package> {
    let definitions = ["rule", "part"].map(|kind| format!("{kind} \"{class}\""));
    let mut found = workspace.packages.iter().filter(|package| {
        let folder = package.manifest_path.parent().unwrap_or(Path::new(""));
        fs::read_to_string(folder.join("src/config.rs"))
            .is_ok_and(|text| definitions.iter().any(|definition| text.contains(definition)))
    });
    let package = found.next().with_context(|| format!("no package's src/config.rs says `{}`", definitions[0]))?;
    if let Some(other) = found.next() {
        bail!("{} and {} both say `{}`", package.name, other.name, definitions[0]);
    }
    Ok(package)
}

#[cfg(test)]
impl Classes {
    /// One rule and one schedule.
    pub(super) fn sample() -> Self {
        use opt_core::Hyper;
        use opt_core::config::Interval;

        let rate =
            HyperparameterSpec::optional::<Hyper>("learning_rate", 0.01, Interval::NOT_NEGATIVE, "learning rate");
        let class = |name: &str, package: &str| Class {
            name: name.to_owned(),
            package: package.to_owned(),
            specs: vec![rate.clone()],
        };
        Self { rules: vec![class("SGD", "opt-sgd")], schedules: vec![class("CosineDecay", SCHEDULES)] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{Sample, package};

    const CONFIG: &str = "hyperparameters! {\n    pub struct A {}\n    rule \"A\"\n}\n";

    #[test]
    fn a_class_is_found_in_its_package() {
        let files = [("crates/a/src/config.rs", CONFIG), ("crates/b/src/lib.rs", "")];
        let workspace = Sample::new(files).packages([package("b", []), package("a", [])]);
        assert_eq!(find(&workspace.workspace(), "A").unwrap().name, "a");
        let message = find(&workspace.workspace(), "B").unwrap_err().to_string();
        assert!(message.ends_with("`rule \"B\"`"), "{message}");
    }

    #[test]
    fn a_class_has_one_package() {
        let files = [("crates/a/src/config.rs", CONFIG), ("crates/b/src/config.rs", CONFIG)];
        let workspace = Sample::new(files).packages([package("b", []), package("a", [])]);
        let message = find(&workspace.workspace(), "A").unwrap_err().to_string();
        assert!(message.starts_with("b and a both say"), "{message}");
    }

    #[test]
    fn registered_classes_have_packages() {
        let classes = Classes::registered(&Workspace::load().unwrap()).unwrap();
        let sgd = classes.rules.iter().find(|class| class.name == "SGD").unwrap();
        assert_eq!(sgd.package, "opt-sgd");
        assert!(sgd.specs.iter().any(|spec| spec.name == "momentum"));
        assert!(classes.schedules.iter().any(|class| class.name == "CosineDecay"));
    }
}
