//! How pictures and videos that these crates drew are told from others, so that nobody
//! takes them for input.

use std::io::Read;
use std::path::Path;

/// What a PNG file says of the software that made it: keyword and text.
pub const SOFTWARE: (&str, &str) = ("Software", "mtcae");

/// What the names of annotated videos end in.
pub const ANNOTATED: &str = "annotated.mp4";

/// Whether a file was drawn here, by the first bytes of a picture and by the name of a
/// video.
pub fn is_drawn(path: impl AsRef<Path>) -> bool {
    let path = path.as_ref();
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    if name.ends_with(format!(".{ANNOTATED}").as_bytes()) {
        return true;
    }
    let mut start = [0; 128];
    let read = crate::files::open(path).and_then(|mut file| file.read(&mut start));
    let text = format!("tEXt{}\0{}", SOFTWARE.0, SOFTWARE.1);
    let says = |n: usize| start[..n].windows(text.len()).any(|w| w == text.as_bytes());
    read.is_ok_and(|n| start.starts_with(b"\x89PNG") && says(n))
}
