//! NumPy's `.npz`: a ZIP archive of arrays, each with a line of text and its numbers.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::sync::LazyLock;

use ndarray::{Array2, ArrayD, IxDyn, ShapeBuilder};
use regex::Regex;
use safetensors::Dtype;
use zip::ZipArchive;

use super::foreign::{Foreign, Named};
use crate::error::{Action, Error};

/// The arrays that were passed to `numpy.savez`: those without a name in their order, or all others by name.
pub(super) fn read(path: &Path) -> Result<Vec<Named>, Error> {
    let file = File::open(path).map_err(Error::io(Action::Read, path))?;
    arrays(file).map_err(|problem| Error::Import { path: path.to_owned(), problem })
}

/// The name that `numpy.savez` gives to an array without one.
pub(super) fn positional(number: usize) -> String {
    format!("arr_{number}")
}

fn arrays(file: impl Read + Seek) -> Result<Vec<Named>, String> {
    let mut archive = ZipArchive::new(file).map_err(|error| error.to_string())?;
    let files = archive.file_names().map(|file| file.map(Cow::into_owned));
    let mut files = files.collect::<Result<Vec<String>, _>>().map_err(|error| error.to_string())?;
    if (0..files.len()).all(|number| files.contains(&format!("{}.npy", positional(number)))) {
        files = (0..files.len()).map(|number| format!("{}.npy", positional(number))).collect();
    } else if let Some(name) = files.iter().find(|name| is_positional(name)) {
        return Err(format!("{name} has no name, and other arrays have: say all names, or none"));
    }
    let mut arrays = Vec::new();
    for file in files {
        let entry = archive.by_name(&file).map_err(|error| format!("{file}: {error}"))?;
        let (size, mut bytes) = (entry.size(), Vec::new());
        // Reads one byte more, to detect longer data.
        entry.take(size.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| format!("{file}: {error}"))?;
        let array = array(&bytes).ok_or_else(|| format!("{file} is no array of floating-point or whole numbers"))?;
        arrays.push(Named { name: file.strip_suffix(".npy").unwrap_or(&file).to_owned(), array });
    }
    Ok(arrays)
}

fn is_positional(file: &str) -> bool {
    let number = file.strip_prefix("arr_").and_then(|rest| rest.strip_suffix(".npy"));
    number.is_some_and(|number| number.parse::<usize>().is_ok())
}

/// Reads an array written by `numpy.save`.
fn array(bytes: &[u8]) -> Option<Foreign> {
    static HEADER: LazyLock<Regex> = LazyLock::new(|| {
        let header =
            r"^\{'descr': '[<|]([fiu])([248])', 'fortran_order': (True|False), 'shape': \(([0-9, ]*)\), *\}\s*$";
        Regex::new(header).expect("valid")
    });
    let bytes = bytes.strip_prefix(b"\x93NUMPY")?;
    // In version 1 the length has two bytes, in later versions four.
    let (start, length) = match bytes.first()? {
        1 => (4, usize::from(u16::from_le_bytes(bytes.get(2..4)?.try_into().ok()?))),
        2 | 3 => (6, u32::from_le_bytes(bytes.get(2..6)?.try_into().ok()?) as usize),
        _ => return None,
    };
    let end = start + length;
    let header = HEADER.captures(str::from_utf8(bytes.get(start..end)?).ok()?)?;
    let dtype = match (&header[1], &header[2]) {
        ("f", "2") => Dtype::F16,
        ("f", "4") => Dtype::F32,
        ("f", "8") => Dtype::F64,
        ("i", "4") => Dtype::I32,
        ("i", "8") => Dtype::I64,
        ("u", "8") => Dtype::U64,
        _ => return None,
    };
    let axes = header[4].split(',').map(str::trim).filter(|axis| !axis.is_empty());
    let shape = axes.map(|axis| axis.parse().ok()).collect::<Option<Vec<usize>>>()?;
    let width = dtype.bitsize() / 8;
    let size = shape.iter().try_fold(width, |size, &axis| size.checked_mul(axis))?;
    let numbers = bytes[end..].to_vec();
    if numbers.len() != size {
        return None;
    }
    let bytes = if &header[3] == "True" { row_by_row(numbers, &shape, width)? } else { numbers };
    Some(Foreign { dtype, shape, bytes })
}

/// Numbers that are stored column by column.
fn row_by_row(numbers: Vec<u8>, shape: &[usize], width: usize) -> Option<Vec<u8>> {
    let count = numbers.len() / width;
    let rows = Array2::from_shape_vec((count, width), numbers).ok()?;
    let places = ArrayD::from_shape_vec(IxDyn(shape).f(), (0..count).collect()).ok()?;
    Some(places.iter().flat_map(|&place: &usize| rows.row(place).to_vec()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(header: &str, numbers: &[u8]) -> Vec<u8> {
        let length = (header.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), numbers].concat()
    }

    fn bytes(numbers: &[f32]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    #[test]
    fn columns_become_rows() {
        let header = "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }   \n";
        let read = array(&saved(header, &bytes(&[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]))).unwrap();
        let want = bytes(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(read, Foreign { dtype: Dtype::F32, shape: vec![2, 3], bytes: want });
    }

    #[test]
    fn shapes_have_any_number_of_axes() {
        for (text, shape) in [("", vec![]), ("1,", vec![1]), ("1, 1", vec![1, 1])] {
            let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({text}), }}\n");
            assert_eq!(array(&saved(&header, &bytes(&[1.0]))).unwrap().shape, shape);
        }
    }

    #[test]
    fn other_arrays_are_refused() {
        let header = |descr: &str, shape: &str| {
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}\n")
        };
        let four = [0; 4];
        assert!(array(&saved(&header("<f4", "1,"), &four)).is_some());
        for header in [
            header(">f4", "1,"),
            header("<U1", "1,"),
            header("|O", "1,"),
            header("<f4", "2,"),
            header("<f4", "4294967296, 4294967296, 4294967296"),
            header("<f4", "99999999999999999999999"),
            header("<f4", "-1,"),
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }\n".to_owned(),
        ] {
            assert_eq!(array(&saved(&header, &four)), None, "{header}");
        }
        for length in 0..saved(&header("<f4", "1,"), &four).len() {
            assert_eq!(array(&saved(&header("<f4", "1,"), &four)[..length]), None, "{length}");
        }
        assert_eq!(array(b"\x93NUMPY\x02\x00\xff\xff\xff\xff"), None);
    }
}
