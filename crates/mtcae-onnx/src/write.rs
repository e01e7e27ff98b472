//! From a graph to a file, a tensor at a time.
//!
//! A message of protobuf says its length before its fields, so lengths are summed first.
//! Fields that repeat may stand anywhere in it: initialisers come last.

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use mtcae_core::files::{At, Draft};
use mtcae_nn::candle_core::Device;
use prost::{Message, length_delimiter_len};

use crate::Onnx;
use crate::error::Error;
use crate::graph::{Data, Initializer};
use crate::proto::{
    EXTERNAL, FLOAT, GRAPH, INITIALIZER, INT64, RAW_DATA, StringStringEntryProto, TensorProto,
};

/// Protobuf's bound on a message.
const MOST_BYTES: usize = i32::MAX as usize;

/// Smaller ones stay in the model where weights lie apart.
const LEAST_APART: usize = 1024;

/// Weights that lie apart begin at multiples of it, so that they can be mapped.
const PAGE: usize = 4096;

/// Numbers that are turned into bytes at a time.
const CHUNK: usize = 1 << 14;

/// The file of weights beside a model.
pub(crate) fn data_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".data");
    PathBuf::from(name)
}

impl Onnx<'_> {
    /// Whether all of it may be one message.
    pub(crate) fn fits(&self) -> bool {
        let graph = self.graph_length(&self.inline());
        self.model.encoded_len() + field_length(graph) <= MOST_BYTES
    }

    /// Writes the model, whole or not at all, in the place of any of that name; and before
    /// it its weights, where they lie apart.
    ///
    /// # Errors
    /// Names the file that cannot be written, or the tensor that cannot be read.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        let tensors = match self.external {
            true => self.apart(path)?,
            false => self.inline(),
        };
        let mut draft = Draft::new(path).at(path)?;
        let graph = self.graph_length(&tensors);
        let mut head = self.model.encode_to_vec();
        head.push(GRAPH);
        push_length(graph, &mut head);
        head.extend(self.graph.encode_to_vec());

        let mut out = BufWriter::with_capacity(1 << 20, draft.file());
        out.write_all(&head).at(path)?;
        for tensor in &tensors {
            out.write_all(&tensor.before()).at(path)?;
            if tensor.is_inline {
                self.numbers(tensor.of, &mut out, path)?;
            }
        }
        out.flush().at(path)?;
        drop(out);
        // The weights come first: a model without them cannot be opened.
        if self.external {
            self.write_apart(&tensors, path)?;
        }
        Ok(draft.commit().at(path)?)
    }

    fn write_apart(&self, tensors: &[Tensor<'_>], path: &Path) -> Result<(), Error> {
        let path = &data_of(path);
        let mut draft = Draft::new(path).at(path)?;
        let mut out = BufWriter::with_capacity(1 << 20, draft.file());
        let mut written = 0;
        for tensor in tensors.iter().filter(|tensor| !tensor.is_inline) {
            let from = written_from(written);
            out.write_all(&vec![0; from - written]).at(path)?;
            self.numbers(tensor.of, &mut out, path)?;
            written = from + tensor.bytes;
        }
        out.flush().at(path)?;
        drop(out);
        Ok(draft.commit().at(path)?)
    }

    /// All tensors as fields of the graph.
    fn inline(&self) -> Vec<Tensor<'_>> {
        let tensors = self.initializers.iter();
        tensors.map(|(of, shape)| Tensor::new(of, shape)).collect()
    }

    /// The large ones by their places in the file of weights.
    fn apart(&self, path: &Path) -> Result<Vec<Tensor<'_>>, Error> {
        let data = data_of(path);
        let location = data.file_name().and_then(|name| name.to_str());
        let location = location.ok_or_else(|| Error::Name {
            path: path.to_owned(),
        })?;
        let mut written = 0;
        let mut tensors = self.inline();
        for tensor in tensors.iter_mut().filter(|t| t.bytes >= LEAST_APART) {
            let from = written_from(written);
            written = from + tensor.bytes;
            tensor.lies_at(location, from);
        }
        Ok(tensors)
    }

    fn graph_length(&self, tensors: &[Tensor<'_>]) -> usize {
        let tensors = tensors.iter().map(|t| field_length(t.length()));
        self.graph.encoded_len() + tensors.sum::<usize>()
    }

    /// The numbers of a tensor, little-endian.
    fn numbers(&self, of: &Initializer, out: &mut impl Write, path: &Path) -> Result<(), Error> {
        let read = || -> Result<_, Error> {
            let tensor = self.weights.load(&of.name, &Device::Cpu)?;
            let shape = tensor.dims().to_vec();
            Ok((tensor.flatten_all()?.to_vec1::<f32>()?, shape))
        };
        let written = match &of.data {
            Data::Tensor => floats(&read()?.0, out),
            Data::Transposed => {
                let (values, shape) = read()?;
                let columns = shape.last().copied().unwrap_or(1);
                floats(&transposed(&values, columns), out)
            }
            Data::Floats { values, .. } => floats(values, out),
            Data::Ints(values) => values
                .iter()
                .try_for_each(|v| out.write_all(&v.to_le_bytes())),
        };
        Ok(written.at(path)?)
    }
}

/// An initialiser as a message without its numbers.
struct Tensor<'a> {
    of: &'a Initializer,
    header: TensorProto,
    bytes: usize,
    is_inline: bool,
}

impl<'a> Tensor<'a> {
    fn new(of: &'a Initializer, shape: &[usize]) -> Self {
        // A config is refused whose tensors are larger than any address.
        let count: usize = shape.iter().product();
        let (data_type, size) = match of.data {
            Data::Ints(_) => (INT64, size_of::<i64>()),
            _ => (FLOAT, size_of::<f32>()),
        };
        let header = TensorProto {
            dims: shape.iter().map(|&n| n as i64).collect(),
            data_type: Some(data_type),
            name: Some(of.name.clone()),
            ..TensorProto::default()
        };
        Self {
            of,
            header,
            bytes: count * size,
            is_inline: true,
        }
    }

    fn lies_at(&mut self, location: &str, offset: usize) {
        self.is_inline = false;
        self.header.data_location = Some(EXTERNAL);
        self.header.external_data = vec![
            StringStringEntryProto::new("location", location),
            StringStringEntryProto::new("offset", offset.to_string()),
            StringStringEntryProto::new("length", self.bytes.to_string()),
        ];
    }

    /// The length of the message.
    fn length(&self) -> usize {
        let numbers = if self.is_inline {
            field_length(self.bytes)
        } else {
            0
        };
        self.header.encoded_len() + numbers
    }

    /// The field up to its numbers.
    fn before(&self) -> Vec<u8> {
        let mut field = vec![INITIALIZER];
        push_length(self.length(), &mut field);
        field.extend(self.header.encode_to_vec());
        if self.is_inline {
            field.push(RAW_DATA);
            push_length(self.bytes, &mut field);
        }
        field
    }
}

/// The length of a field of so many bytes, with the tag of one byte and the length before
/// them.
fn field_length(bytes: usize) -> usize {
    1 + length_delimiter_len(bytes) + bytes
}

/// Where in the file of weights what comes after so many bytes begins.
fn written_from(written: usize) -> usize {
    written.next_multiple_of(PAGE)
}

/// A length as protobuf writes it: seven bits a byte, the lowest first.
fn push_length(length: usize, out: &mut Vec<u8>) {
    let mut left = length;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

fn floats(values: &[f32], out: &mut impl Write) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(4 * CHUNK.min(values.len()));
    for chunk in values.chunks(CHUNK) {
        bytes.clear();
        bytes.extend(chunk.iter().flat_map(|v| v.to_le_bytes()));
        out.write_all(&bytes)?;
    }
    Ok(())
}

/// A matrix of so many columns, by tiles that stay in the cache.
fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    const TILE: usize = 32;
    let rows = values.len() / columns.max(1);
    let mut out = vec![0.0; values.len()];
    for top in (0..rows).step_by(TILE) {
        for left in (0..columns).step_by(TILE) {
            for row in top..rows.min(top + TILE) {
                for column in left..columns.min(left + TILE) {
                    out[column * rows + row] = values[row * columns + column];
                }
            }
        }
    }
    out
}
