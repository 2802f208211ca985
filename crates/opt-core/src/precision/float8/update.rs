//! The fused loop over slots in 8 bits: decodes a tile, runs the rule's function of one element, and encodes it again.

use std::array;

use super::codes;
use super::room::Room;
use super::{BYTES, Format, GROUPS, ROW, TILE, groups, keys, parts, stochastic};
use crate::loops::slices::split_off;
use crate::loops::{dispatched, prefetch};
use crate::precision::stochastic::Noise;
use crate::real::Scalar;
use crate::rule::Constants;

/// How many elements ahead of the loop the processor is told to fetch.
const AHEAD: usize = 256;

/// Runs `element` over tiles, the last of which may be shorter. `first` is the number of the first tile in the
/// variable.
#[expect(clippy::too_many_arguments, reason = "a loop over all that there is")]
#[inline]
pub(crate) fn update<T: Scalar, K, F: Fn(&K, T, T, [T; N]) -> (T, [T; N]), const N: usize>(
    k: &K,
    element: &F,
    value: &mut [T],
    gradient: &[T],
    mut state: [&mut [u8]; N],
    formats: [Format; N],
    constants: Constants<T>,
    noise: Noise,
    first: usize,
) {
    let ((values, value), (gradients, gradient)) = (value.as_chunks_mut(), gradient.as_chunks());
    let mut rest = state.each_mut().map(|slot| split_off(slot, values.len() * BYTES));
    // Once for both: clearing them takes time.
    let mut rooms = [Room::EMPTY; N];
    update_tiles(k, element, values, gradients, state, formats, constants, noise, first, TILE, &mut rooms);
    if !value.is_empty() {
        // Alone, with zeros behind it.
        let (len, first) = (value.len(), first + values.len());
        let (mut values, mut gradients) = ([[T::zero(); TILE]], [[T::zero(); TILE]]);
        values[0][..len].copy_from_slice(value);
        gradients[0][..len].copy_from_slice(gradient);
        let mut tiles = [[0; BYTES]; N];
        for (tile, rest) in tiles.iter_mut().zip(&rest) {
            tile[..GROUPS].copy_from_slice(&codes::scales(rest));
            tile[GROUPS..][..len].copy_from_slice(&rest[groups(rest)..]);
        }
        let whole = tiles.each_mut().map(|tile| &mut tile[..]);
        update_tiles(k, element, &mut values, &gradients, whole, formats, constants, noise, first, len, &mut rooms);
        value.copy_from_slice(&values[0][..len]);
        for (tile, rest) in tiles.iter().zip(&mut rest) {
            let (scales, codes) = parts(rest);
            scales.copy_from_slice(&tile[..scales.len()]);
            codes.copy_from_slice(&tile[GROUPS..][..codes.len()]);
        }
    }
}

dispatched! {
    /// Runs `element` over whole tiles. Elements of the last one from `len` on have no influence on others.
    #[expect(clippy::too_many_arguments, reason = "a loop over all that there is")]
    fn update_tiles<T: Scalar, K, F: Fn(&K, T, T, [T; N]) -> (T, [T; N]); N: usize>(
        k: &K,
        element: &F,
        values: &mut [[T; TILE]],
        gradients: &[[T; TILE]],
        mut state: [&mut [u8]; N],
        formats: [Format; N],
        constants: Constants<T>,
        noise: Noise,
        first: usize,
        len: usize,
        rooms: &mut [Room; N],
    ) {
        for (tile, (value, gradient)) in values.iter_mut().zip(gradients).enumerate() {
            let keys = keys(noise, first + tile);
            update_tile(k, element, value, gradient, &mut state, tile, formats, constants, keys, len, rooms);
        }
    }
}

/// Runs `element` over one tile.
#[expect(clippy::too_many_arguments, reason = "a loop over all that there is")]
#[inline(always)]
fn update_tile<T: Scalar, K, F: Fn(&K, T, T, [T; N]) -> (T, [T; N]), const N: usize>(
    k: &K,
    element: &F,
    value: &mut [T; TILE],
    gradient: &[T; TILE],
    state: &mut [&mut [u8]; N],
    tile: usize,
    formats: [Format; N],
    constants: Constants<T>,
    keys: [u32; 4],
    len: usize,
    rooms: &mut [Room; N],
) {
    let (start, end) = (tile * BYTES, (tile + 1) * BYTES);
    let mut wild = [false; N];
    for slot in 0..N {
        let tile = &state[slot][start..end];
        wild[slot] = rooms[slot].begin(formats[slot], tile);
        // The next tile, which is also there at the end of a block.
        prefetch(state[slot], end, BYTES);
    }
    let rows = value.as_chunks_mut::<ROW>().0.iter_mut().zip(gradient.as_chunks::<ROW>().0);
    for (row, (value, gradient)) in rows.enumerate() {
        prefetch(value, AHEAD, ROW);
        prefetch(gradient, AHEAD, ROW);
        for slot in 0..N {
            if !wild[slot] {
                rooms[slot].decode(formats[slot], row);
            }
        }
        for i in 0..ROW {
            let (w, g) = constants.before_any(value[i], gradient[i]);
            let before = array::from_fn(|slot| T::from_f32(rooms[slot].numbers[row][i]));
            let (w, s) = element(k, w, g, before);
            value[i] = w;
            for slot in 0..N {
                rooms[slot].numbers[row][i] = s[slot].to_f32();
            }
        }
    }
    for slot in 0..N {
        rooms[slot].encode(formats[slot], &mut state[slot][start..end], len, stochastic(keys[slot]));
    }
}
