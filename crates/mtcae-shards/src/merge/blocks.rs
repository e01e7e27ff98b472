//! Lines of a file that is opened for a block at a time, since there may be more shards than a
//! process may have files open.

use std::io::{Read, Result, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use mtcae_core::files::open;

const BLOCK: usize = 1 << 16;

pub struct Blocks {
    path: PathBuf,
    /// Where the next block begins.
    next: u64,
    block: Vec<u8>,
    /// What of the block was read.
    read: usize,
}

impl Blocks {
    /// # Errors
    /// What opening gives.
    pub fn open(path: &Path) -> Result<Self> {
        open(path)?;
        Ok(Self {
            path: path.to_owned(),
            next: 0,
            block: Vec::new(),
            read: 0,
        })
    }

    /// Puts the next line, up to its line feed or the end, behind `line`.
    pub fn line(&mut self, line: &mut Vec<u8>) -> Result<()> {
        loop {
            let rest = &self.block[self.read..];
            if let Some(end) = rest.iter().position(|b| *b == b'\n') {
                line.extend_from_slice(&rest[..=end]);
                self.read += end + 1;
                return Ok(());
            }
            line.extend_from_slice(rest);
            let mut file = open(&self.path)?;
            file.seek(SeekFrom::Start(self.next))?;
            self.block.clear();
            self.read = 0;
            let read = file.take(BLOCK as u64).read_to_end(&mut self.block)?;
            self.next += read as u64;
            if read == 0 {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_the_file_whatever_their_length() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rows");
        let lines = [0, 3, BLOCK - 6, BLOCK, 5, 3 * BLOCK + 7, 0, 9];
        let text: Vec<u8> = lines
            .iter()
            .flat_map(|n| [vec![b'a'; *n], vec![b'\n']].concat())
            .chain(*b"torn")
            .collect();
        std::fs::write(&path, &text).expect("written");
        let mut blocks = Blocks::open(&path).expect("there");
        let mut read = Vec::new();
        for n in lines {
            let mut line = Vec::new();
            blocks.line(&mut line).expect("read");
            assert_eq!(line.len(), n + 1);
            read.extend(line);
        }
        for _ in 0..2 {
            blocks.line(&mut read).expect("the end");
        }
        assert_eq!(read, text);
    }
}
