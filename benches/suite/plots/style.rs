//! The common style of the plots.

use std::io;

use plotters::coord::Shift;
use plotters::prelude::*;

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Drawn<T = ()> = Result<T, DrawingAreaErrorKind<io::Error>>;

const FONT: &str = "sans-serif";
pub(super) const TEXT: RGBColor = RGBColor(60, 60, 60);

/// Colors that stay distinct with a color vision deficiency, after P. Tol, "Colour schemes", 2021.
const COLORS: [RGBColor; 8] = [
    RGBColor(0, 119, 187),
    RGBColor(238, 119, 51),
    RGBColor(0, 153, 136),
    RGBColor(204, 51, 17),
    RGBColor(170, 68, 153),
    RGBColor(70, 70, 70),
    RGBColor(170, 120, 20),
    RGBColor(51, 187, 238),
];

pub(super) fn color(place: usize) -> RGBColor {
    COLORS[place % COLORS.len()]
}

pub(super) fn font(size: u32) -> TextStyle<'static> {
    (FONT, size).into_font().color(&TEXT)
}

/// Draws on white and returns the text of the picture.
pub(super) fn picture(size: (u32, u32), draw: impl FnOnce(&Area<'_>) -> Drawn) -> Drawn<String> {
    let mut text = String::new();
    let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
    root.fill(&WHITE)?;
    draw(&root)?;
    root.present()?;
    drop(root);
    Ok(text)
}

/// Names with samples of their color, from the top.
pub(super) fn legend(area: &Area<'_>, names: &[&str]) -> Drawn {
    for (place, name) in names.iter().enumerate() {
        let y = 50 + 24 * place as i32;
        area.draw(&Circle::new((14, y), 5, color(place).filled()))?;
        area.draw(&Text::new((*name).to_owned(), (28, y - 7), font(14)))?;
    }
    Ok(())
}
