//! Tables that stay on the device as long as they are used.

/// The most tables that a kernel keeps.
const MOST: usize = 4;

/// Tables by their contents, those that were used last at the end.
#[derive(Debug)]
pub(super) struct Kept<M>(Vec<(Vec<u64>, M)>);

impl<M> Default for Kept<M> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<M> Kept<M> {
    /// The table of these contents. `make` uploads it if it is not there, in place of the one that has not been used
    /// for longest.
    pub(super) fn get<E>(&mut self, words: Vec<u64>, make: impl FnOnce(&[u64]) -> Result<M, E>) -> Result<&M, E> {
        let entry = match self.0.iter().position(|(contents, _)| *contents == words) {
            Some(place) => self.0.remove(place),
            None => {
                let made = make(&words)?;
                if self.0.len() == MOST {
                    self.0.remove(0);
                }
                (words, made)
            }
        };
        self.0.push(entry);
        Ok(&self.0[self.0.len() - 1].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_made_once_while_it_is_used() {
        let mut kept = Kept::default();
        let mut made = Vec::new();
        let mut get = |word: u64| {
            let table = kept.get(vec![word], |words| {
                made.push(words[0]);
                Ok::<_, ()>(words[0] + 100)
            });
            assert_eq!(table, Ok(&(word + 100)));
        };
        [0, 1, 2, 0, 3, 4, 0, 1].into_iter().for_each(&mut get);
        assert_eq!(made, [0, 1, 2, 3, 4, 1]);
    }

    #[test]
    fn a_table_that_cannot_be_made_is_not_kept() {
        let mut kept = Kept::<u64>::default();
        assert_eq!(kept.get(vec![1], |_| Err("full")), Err("full"));
        assert_eq!(kept.get(vec![1], |_| Ok::<_, &str>(2)), Ok(&2));
    }
}
