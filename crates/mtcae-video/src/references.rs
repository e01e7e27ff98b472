//! Whether the pictures of an ISO or QuickTime file lie in another file.
//!
//! FFmpeg takes them for those of the file itself where the reference is a `url `, so
//! that this is looked up here.

use std::io::{BufReader, Read, Result, Seek, SeekFrom};

use mtcae_core::archive::Piece;

/// Boxes on the way to a track's data references.
const WAY: [&[u8; 4]; 5] = [b"moov", b"trak", b"mdia", b"minf", b"dinf"];

/// Most bytes of a reference that are read; longer ones are no plain names.
const MOST: u64 = 1 << 16;

/// Where pictures lie, if not in the file that says so.
pub enum Elsewhere {
    /// What the file names.
    Place(String),
    /// The header is compressed, and does not show it.
    Hidden,
}

/// Where a track of pictures says that its data lie, if not in this file. The file is
/// left at its start. What is no ISO or QuickTime file has no such boxes, whatever its
/// first bytes are.
///
/// # Errors
/// What reading gives.
pub fn elsewhere(file: &mut Piece) -> Result<Option<Elsewhere>> {
    let length = file.length()?;
    let mut reader = BufReader::new(&mut *file);
    let found = search(&mut reader, 0..length, 0, &mut false)?;
    drop(reader);
    file.rewind()?;
    Ok(found)
}

/// A box: its name and where its content lies.
fn next_box(
    reader: &mut BufReader<&mut Piece>,
    at: u64,
    end: u64,
) -> Result<Option<([u8; 4], std::ops::Range<u64>)>> {
    if end.saturating_sub(at) < 8 {
        return Ok(None);
    }
    let mut header = [0; 8];
    go(reader, at)?;
    reader.read_exact(&mut header)?;
    let [a, b, c, d, name @ ..] = header;
    let (mut size, mut start) = (u64::from(u32::from_be_bytes([a, b, c, d])), at + 8);
    if size == 1 && end - at >= 16 {
        let mut long = [0; 8];
        reader.read_exact(&mut long)?;
        (size, start) = (u64::from_be_bytes(long), at + 16);
    }
    let stop = match size {
        0 => end,
        _ => at.saturating_add(size).min(end),
    };
    // A box that does not hold its own header ends the list.
    Ok((stop >= start).then_some((name, start..stop)))
}

fn go(reader: &mut BufReader<&mut Piece>, to: u64) -> Result<()> {
    let here = reader.stream_position()?;
    match i64::try_from(i128::from(to) - i128::from(here)) {
        Ok(step) => reader.seek_relative(step),
        Err(_) => reader.seek(SeekFrom::Start(to)).map(|_| ()),
    }
}

/// Searches the boxes in a range, which lie `depth` steps along the way; `pictures` is
/// whether the track's handler is of video.
fn search(
    reader: &mut BufReader<&mut Piece>,
    range: std::ops::Range<u64>,
    depth: usize,
    pictures: &mut bool,
) -> Result<Option<Elsewhere>> {
    let mut at = range.start;
    let mut found = None;
    while let Some((name, content)) = next_box(reader, at, range.end)? {
        at = content.end;
        if WAY.get(depth).is_some_and(|step| **step == name) {
            let mut own = false;
            // A handler is beside what it is about, before or after it.
            let of = if name == *b"trak" || name == *b"moov" {
                &mut own
            } else {
                &mut *pictures
            };
            let inside = search(reader, content, depth + 1, of)?;
            match depth {
                1 if !own => {}
                _ => found = found.or(inside),
            }
        } else if depth == 1 && name == *b"cmov" {
            *pictures = true;
            found = found.or(Some(Elsewhere::Hidden));
        } else if depth == 3 && name == *b"hdlr" {
            let mut handler = [0; 12];
            if content.end - content.start >= 12 {
                go(reader, content.start)?;
                reader.read_exact(&mut handler)?;
                *pictures |= handler[8..] == *b"vide";
            }
        } else if depth == WAY.len() && name == *b"dref" {
            // After version, flags and the number of entries.
            let entries = content.start.saturating_add(8)..content.end;
            found = found.or(reference(reader, entries)?.map(Elsewhere::Place));
        }
    }
    Ok(found)
}

/// The first entry that names another place.
fn reference(
    reader: &mut BufReader<&mut Piece>,
    entries: std::ops::Range<u64>,
) -> Result<Option<String>> {
    let mut at = entries.start;
    while let Some((_, content)) = next_box(reader, at, entries.end)? {
        at = content.end;
        let length = content.end - content.start;
        if length < 4 {
            continue;
        }
        go(reader, content.start)?;
        let mut data = vec![0; length.min(MOST) as usize];
        reader.read_exact(&mut data)?;
        let (flags, place) = data.split_at(4);
        // The lowest flag says "in this file"; some writers leave it out and name
        // nothing.
        let here = flags[3] & 1 == 1 || place.iter().all(|b| *b == 0);
        if !here {
            let text = String::from_utf8_lossy(place);
            let words = text.split(|c: char| c.is_control() || c == '\u{fffd}');
            let longest = words.max_by_key(|w| w.len()).unwrap_or_default();
            return Ok(Some(longest.chars().take(200).collect()));
        }
    }
    Ok(None)
}
