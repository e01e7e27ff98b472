//! 8-bit clips to tubes on a GPU (`cuda/tubes.cu`).

use super::{Element, Launch, Pointer, Unsupported, arguments, count, rows_of_grid, sizes};

/// The size of a batch of clips and of the tubes they are cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clips {
    /// B·T: frames of all clips.
    pub frames: usize,
    /// H: rows of a frame.
    pub height: usize,
    /// W: pixels of a row.
    pub width: usize,
    /// t: frames of a tube.
    pub tubelet: usize,
    /// p: rows and columns of a tube.
    pub patch: usize,
}

/// out (B·N, 3·t·p²) from frames (B·T, H, W, 3) of 8 bits; `table` (3, 256) of `f32`
/// says what each level of each channel becomes.
///
/// # Errors
/// When the clips are no whole number of tubes or too many for one launch.
pub fn cut(
    element: Element,
    out: Pointer,
    frames: Pointer,
    table: Pointer,
    clips: Clips,
) -> Result<Launch, Unsupported> {
    let Clips {
        frames: count_of_frames,
        height,
        width,
        tubelet,
        patch,
    } = clips;
    let whole = |n: usize, by: usize| by > 0 && n.is_multiple_of(by);
    if !whole(count_of_frames, tubelet) || !whole(height, patch) || !whole(width, patch) {
        return Err(Unsupported(format!(
            "tubes: {count_of_frames} frames of {height}×{width} cannot be cut into whole tubes of {tubelet}×{patch}×{patch}"
        )));
    }
    let grid = [
        count("tubes: width", width / patch)?,
        rows_of_grid("tubes: rows of tubes", height / patch)?,
        rows_of_grid("tubes: frames of the batch", count_of_frames / tubelet)?,
    ];
    let numbers = sizes("tubes", [height, width, tubelet, patch])?;
    Ok(Launch::new(
        "tubes",
        format!("tubes_{}", element.suffix()),
        grid,
        256,
        arguments(&[out, frames, table], numbers),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_block_cuts_one_tube_and_odd_clips_are_refused() {
        let clips = Clips {
            frames: 32,
            height: 224,
            width: 224,
            tubelet: 2,
            patch: 16,
        };
        assert_eq!(
            cut(
                Element::F32,
                Pointer::NONE,
                Pointer::NONE,
                Pointer::NONE,
                clips
            )
            .expect("whole")
            .grid,
            [14, 14, 16]
        );
        let error = cut(
            Element::F32,
            Pointer::NONE,
            Pointer::NONE,
            Pointer::NONE,
            Clips {
                height: 220,
                ..clips
            },
        )
        .expect_err("220 is no multiple of 16");
        assert!(error.to_string().contains("220×224"), "{error}");
    }
}
