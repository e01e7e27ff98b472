//! H.264's units, as far as to see which packets no other picture needs: a packet
//! that libavcodec does not get holds no other up, whereas one that it skips waits
//! for its turn among the decoder's threads.

/// How units lie in a packet (ISO/IEC 14496-15; ITU-T H.264, annex B).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Units {
    /// Each behind its length, in this many bytes.
    Lengths(usize),
    /// Each behind a start code.
    StartCodes,
}

impl Units {
    /// As a stream's extradata say: an `avcC` box begins with its version, 1.
    pub fn of(extradata: &[u8]) -> Self {
        match extradata {
            [1, _, _, _, lengths, ..] => Self::Lengths(usize::from(lengths & 3) + 1),
            _ => Self::StartCodes,
        }
    }

    /// Whether nothing but this packet's own picture is lost with it: it consists of
    /// slices of a picture that others do not refer to, and of units that say
    /// something about that picture alone. False when in doubt.
    pub fn is_disposable(self, packet: &[u8]) -> bool {
        let mut slices = 0;
        let mut harmless = |unit: &[u8]| match unit.first() {
            Some(&head) => match (head & 31, head >> 5 & 3) {
                // A slice, of a picture that is no reference.
                (1, 0) => {
                    slices += 1;
                    true
                }
                // Supplemental information, delimiter, filler.
                (6 | 9 | 12, 0) => true,
                _ => false,
            },
            None => false,
        };
        let all = match self {
            Self::Lengths(bytes) => with_lengths(packet, bytes, &mut harmless),
            Self::StartCodes => with_start_codes(packet, &mut harmless),
        };
        all && slices > 0
    }
}

/// Whether the packet is whole units that all pass.
fn with_lengths(mut rest: &[u8], bytes: usize, pass: &mut impl FnMut(&[u8]) -> bool) -> bool {
    while !rest.is_empty() {
        let Some((length, behind)) = rest.split_at_checked(bytes) else {
            return false;
        };
        let length = length.iter().fold(0, |sum, &b| sum << 8 | usize::from(b));
        let Some((unit, behind)) = behind.split_at_checked(length) else {
            return false;
        };
        if !pass(unit) {
            return false;
        }
        rest = behind;
    }
    true
}

/// Whether all that begins behind a start code passes. Only the first byte of a
/// unit counts, so its end is not looked for.
fn with_start_codes(packet: &[u8], pass: &mut impl FnMut(&[u8]) -> bool) -> bool {
    let mut rest = packet;
    while let Some(at) = rest.windows(3).position(|w| w == [0, 0, 1]) {
        rest = &rest[at + 3..];
        if !pass(rest) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::budget::Budget;
    use crate::ffi::decoder::extradata;
    use crate::ffi::input::Input;
    use crate::options::OpenOptions;

    /// First bytes: a slice of a B picture, of a reference, of an IDR picture, and
    /// what may stand beside it.
    const B: u8 = 0x01;
    const REFERENCE: u8 = 0x41;
    const IDR: u8 = 0x65;
    const SEI: u8 = 0x06;
    const DELIMITER: u8 = 0x09;
    const PARAMETERS: u8 = 0x68;

    fn packet(framing: Units, heads: &[u8]) -> Vec<u8> {
        let unit = |&head: &u8| {
            let mut out = match framing {
                Units::Lengths(bytes) => 4u32.to_be_bytes()[4 - bytes..].to_vec(),
                Units::StartCodes => vec![0, 0, 0, 1],
            };
            out.extend([head, 0x9a, 0x00, 0x80]);
            out
        };
        heads.iter().flat_map(unit).collect()
    }

    #[test]
    fn only_pictures_that_nobody_refers_to_are_disposable() {
        for framing in [1, 2, 4]
            .map(Units::Lengths)
            .into_iter()
            .chain([Units::StartCodes])
        {
            for (heads, want) in [
                (&[B][..], true),
                (&[DELIMITER, SEI, B, B], true),
                (&[SEI], false),
                (&[B, REFERENCE], false),
                (&[REFERENCE], false),
                (&[IDR], false),
                (&[PARAMETERS, B], false),
                (&[], false),
            ] {
                let data = packet(framing, heads);
                assert_eq!(framing.is_disposable(&data), want, "{framing:?} {heads:?}");
            }
        }
    }

    #[test]
    fn what_is_cut_off_is_kept() {
        let whole = packet(Units::Lengths(4), &[B]);
        for end in 0..whole.len() {
            assert!(!Units::Lengths(4).is_disposable(&whole[..end]), "{end}");
        }
        assert!(!Units::StartCodes.is_disposable(&[0, 0, 1]));
        assert!(!Units::StartCodes.is_disposable(&whole));
    }

    #[test]
    fn extradata_say_how_units_lie() {
        assert_eq!(Units::of(&[1, 100, 0, 40, 0xff, 0xe1]), Units::Lengths(4));
        assert_eq!(Units::of(&[1, 100, 0, 40, 0xfc]), Units::Lengths(1));
        assert_eq!(Units::of(&[0, 0, 0, 1, 0x67]), Units::StartCodes);
        assert_eq!(Units::of(&[]), Units::StartCodes);
    }

    /// As many as libavcodec leaves out by `skip_frame = NONREF`, counted by PyAV 18.1:
    /// of lengths, and of start codes.
    #[test]
    fn libavcodec_leaves_out_the_same_number() {
        for (name, frames, decoded) in [
            ("bframes.mp4", 60, 43),
            ("opengop.mkv", 50, 37),
            ("h264.ts", 30, 21),
            ("raw.h264", 30, 21),
        ] {
            let file = format!("{}/../../fixtures/video/{name}", env!("CARGO_MANIFEST_DIR"));
            let file = mtcae_core::archive::Piece::open(&file).expect(&file);
            let Ok(mut input) = Input::open(file, Budget::new(&OpenOptions::default(), 0)) else {
                panic!("{name} does not open");
            };
            let units = Units::of(extradata(input.parameters()));
            let (mut all, mut disposable) = (0, 0);
            while let Ok(Some(packet)) = input.read() {
                all += 1;
                disposable += u32::from(units.is_disposable(packet.data()));
            }
            assert_eq!((all, all - disposable), (frames, decoded), "{name}");
        }
    }
}
