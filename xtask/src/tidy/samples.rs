//! Laws on sample repositories.

use super::repository::Repository;
use super::{Law, Violation};
use crate::samples::Sample;

impl Sample {
    pub(crate) fn repository(&self) -> Repository {
        Repository::read(self.workspace(), self.paths()).unwrap()
    }

    /// Where a law is broken, as `path:line`.
    pub(crate) fn broken(&self, law: Law) -> Vec<String> {
        let place = |violation: Violation| format!("{}:{}", violation.path, violation.line);
        law(&self.repository()).into_iter().map(place).collect()
    }
}
