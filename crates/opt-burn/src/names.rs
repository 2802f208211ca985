//! Names of parameters: their paths in the module.

/// The name of a parameter that is a module by itself, and so has no path.
const ROOT: &str = "value";

/// The path of the parameter that is visited, as `encoder.0.weight`. Its memory is used again for the next one.
#[derive(Debug, Default)]
pub(crate) struct Path {
    text: String,
    /// The length of the text before each part.
    lengths: Vec<usize>,
}

impl Path {
    pub(crate) fn enter(&mut self, name: &str) {
        self.lengths.push(self.text.len());
        if !self.text.is_empty() {
            self.text.push('.');
        }
        self.text.push_str(name);
    }

    pub(crate) fn exit(&mut self) {
        let length = self.lengths.pop().unwrap_or_default();
        self.text.truncate(length);
    }

    pub(crate) fn name(&self) -> &str {
        if self.text.is_empty() { ROOT } else { &self.text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_left_as_it_was_entered() {
        let mut path = Path::default();
        assert_eq!(path.name(), "value");
        path.enter("encoder");
        path.enter("0");
        path.enter("weight");
        assert_eq!(path.name(), "encoder.0.weight");
        path.exit();
        path.exit();
        path.enter("1");
        assert_eq!(path.name(), "encoder.1");
        path.exit();
        path.exit();
        assert_eq!(path.name(), "value");
    }
}
