//! Which files a folder is searched for, by the endings of their names. Files named one
//! by one may end as they like.

use std::path::Path;

/// Endings of videos and of animated pictures, lower case, in their order.
pub const VIDEO_ENDINGS: [&str; 19] = [
    "3gp", "apng", "asf", "avi", "flv", "gif", "h264", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg",
    "mpg", "mxf", "ogv", "ts", "webm", "wmv",
];

/// Endings of still pictures, lower case, in their order.
pub const IMAGE_ENDINGS: [&str; 5] = ["bmp", "jpeg", "jpg", "png", "webp"];

/// Whether a file is named as a video.
pub fn is_video(path: &Path) -> bool {
    ends(path, &VIDEO_ENDINGS)
}

/// Whether a file is named as a video or a picture.
pub fn is_media(path: &Path) -> bool {
    is_video(path) || ends(path, &IMAGE_ENDINGS)
}

fn ends(path: &Path, endings: &[&str]) -> bool {
    let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    ending.is_some_and(|e| endings.contains(&&e[..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_by_their_endings_in_any_case() {
        for name in ["a.mp4", "a.b.MOV", "clip.gif", "x.Webm"] {
            assert!(is_video(Path::new(name)) && is_media(Path::new(name)));
        }
        assert!(is_media(Path::new("a.JPG")) && !is_video(Path::new("a.JPG")));
        for name in ["a.txt", "mp4", ".mp4", "a.mp4.part", "a"] {
            assert!(!is_media(Path::new(name)), "{name}");
        }
        assert!(VIDEO_ENDINGS.is_sorted() && IMAGE_ENDINGS.is_sorted());
    }
}
