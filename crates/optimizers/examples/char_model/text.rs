//! The text, as numbers of characters.

use ndarray::Array2;

const TEXT: &str = include_str!("../data/shakespeare.txt");

/// Characters that the model sees before the one that it predicts.
pub(crate) const CONTEXT: usize = 16;

/// One character in ten is held out.
const HELD_OUT_PART: usize = 10;

/// The text in two parts.
#[derive(Debug)]
pub(crate) struct Text {
    /// Each character of the text once; the number of a character is its place.
    pub(crate) characters: Vec<char>,
    pub(crate) training: Vec<usize>,
    /// The end of the text.
    pub(crate) held_out: Vec<usize>,
}

/// Characters to predict, and the characters before them.
#[derive(Debug)]
pub(crate) struct Batch {
    /// One context a row.
    pub(crate) contexts: Array2<usize>,
    pub(crate) next: Vec<usize>,
}

impl Text {
    /// Reads the text, which is compiled into this program.
    pub(crate) fn load() -> Self {
        let mut characters: Vec<char> = TEXT.chars().collect();
        characters.sort_unstable();
        characters.dedup();
        let number = |c| characters.binary_search(&c).expect("every character is there");
        let mut training: Vec<usize> = TEXT.chars().map(number).collect();
        let held_out = training.split_off(training.len() - training.len() / HELD_OUT_PART);
        Self { characters, training, held_out }
    }

    /// The number of the line break.
    pub(crate) fn line_break(&self) -> usize {
        self.characters.binary_search(&'\n').expect("the text has lines")
    }
}

impl Batch {
    /// The contexts of a part of the text that begin at some places, below its length less [`CONTEXT`].
    pub(crate) fn new(part: &[usize], places: &[usize]) -> Self {
        let contexts = Array2::from_shape_fn((places.len(), CONTEXT), |(row, i)| part[places[row] + i]);
        Self { contexts, next: places.iter().map(|place| part[place + CONTEXT]).collect() }
    }

    /// Every context of a part of the text.
    pub(crate) fn all(part: &[usize]) -> Self {
        Self::new(part, &(0..part.len() - CONTEXT).collect::<Vec<_>>())
    }

    pub(crate) fn len(&self) -> usize {
        self.next.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_read_from_the_text() {
        let text = Text::load();
        assert_eq!((text.characters.len(), text.training.len(), text.held_out.len()), (61, 89_859, 9_984));
        let batch = Batch::new(&text.training, &[6]);
        let characters: String = batch.contexts.iter().map(|&number| text.characters[number]).collect();
        assert_eq!(characters, "Citizen:\nBefore ");
        assert_eq!(text.characters[batch.next[0]], 'w');
        assert_eq!(Batch::all(&text.held_out).len(), 9_984 - CONTEXT);
    }
}
