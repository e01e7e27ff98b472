//! A restricted reader of Python pickles.
//!
//! It builds plain values and the tensors of `torch.save`; it never calls
//! anything. Every other class or function becomes an opaque value. The machine is
//! a loop over opcodes (Lib/pickletools.py of CPython describes them), values are
//! indices into one arena, so neither nesting nor sharing nor cycles can exhaust
//! the stack, and memory is linear in the length of the pickle.

use std::collections::HashMap;

/// A value: small ones as they are, others as an index among the objects.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// Numbers, sets, foreign objects: nothing that a checkpoint needs.
    Opaque,
    At(usize),
}

/// What an index stands for.
#[derive(Clone, Debug)]
pub(super) enum Object {
    Text(String),
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    /// A class or function by module and name.
    Global(String, String),
    Storage(Storage),
    Tensor(TensorRef),
}

/// A storage of `torch.save`.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    /// The class, `FloatStorage` say.
    pub class: String,
    /// Its name below `data/`.
    pub key: String,
}

/// A view of a storage, in elements.
#[derive(Clone, Debug)]
pub(super) struct TensorRef {
    pub storage: Storage,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub stride: Vec<usize>,
}

/// All objects of a pickle, and its result.
pub(super) struct Pickle {
    objects: Vec<Object>,
    pub root: Value,
}

impl Pickle {
    pub fn object(&self, value: Value) -> Option<&Object> {
        match value {
            Value::At(index) => self.objects.get(index),
            _ => None,
        }
    }

    pub fn text(&self, value: Value) -> Option<&str> {
        match self.object(value)? {
            Object::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Of a class, a module or a storage.
const LONGEST_NAME: usize = 256;

pub(super) type Result<T> = std::result::Result<T, String>;

/// Runs a pickle. `Err` says what is wrong and where.
pub(super) fn read(bytes: &[u8]) -> Result<Pickle> {
    let mut machine = Machine {
        input: Input { bytes, at: 0 },
        objects: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    loop {
        let at = machine.input.at;
        match machine.step() {
            Ok(None) => {}
            Ok(Some(root)) => {
                return Ok(Pickle {
                    objects: machine.objects,
                    root,
                });
            }
            Err(reason) => return Err(format!("byte {at} of its pickle: {reason}")),
        }
    }
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.get(..n).ok_or("it ends too early")?;
        self.at += n;
        Ok(taken)
    }

    /// A little-endian number of up to 8 bytes.
    fn number(&mut self, bytes: usize) -> Result<u64> {
        let taken = self.take(bytes)?;
        Ok(taken.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b)))
    }

    /// A count of `bytes` bytes, then as many bytes.
    fn counted(&mut self, bytes: usize) -> Result<&'a [u8]> {
        let n = self.number(bytes)?;
        self.take(usize::try_from(n).map_err(|_| "it ends too early")?)
    }

    fn line(&mut self) -> Result<&'a str> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let n = rest
            .iter()
            .position(|&b| b == b'\n')
            .ok_or("it ends too early")?;
        self.at += n + 1;
        text(&rest[..n])
    }
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| "a text is not UTF-8".to_owned())
}

pub(super) struct Machine<'a> {
    input: Input<'a>,
    pub(super) objects: Vec<Object>,
    stack: Vec<Value>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u64, Value>,
}

impl Machine<'_> {
    /// Runs one opcode; `Some` is the result of the pickle.
    fn step(&mut self) -> Result<Option<Value>> {
        let opcode = self.input.number(1)? as u8;
        match opcode {
            // PROTO, FRAME
            0x80 => drop(self.input.take(1)?),
            0x95 => drop(self.input.take(8)?),
            b'.' => return self.pop().map(Some),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'N' => self.stack.push(Value::None),
            0x88 => self.stack.push(Value::Bool(true)),
            0x89 => self.stack.push(Value::Bool(false)),
            b'K' => self.int(1)?,
            b'M' => self.int(2)?,
            b'J' => {
                let n = self.input.number(4)? as u32 as i32;
                self.stack.push(Value::Int(n.into()));
            }
            // LONG1, LONG4
            0x8a => self.long(1)?,
            0x8b => self.long(4)?,
            // INT, LONG and FLOAT as text
            b'I' => {
                let value = match self.input.line()? {
                    "00" => Value::Bool(false),
                    "01" => Value::Bool(true),
                    line => line.parse().map_or(Value::Opaque, Value::Int),
                };
                self.stack.push(value);
            }
            b'L' => {
                let line = self.input.line()?.trim_end_matches('L');
                self.stack
                    .push(line.parse().map_or(Value::Opaque, Value::Int));
            }
            b'F' => {
                self.input.line()?;
                self.stack.push(Value::Opaque);
            }
            b'G' => {
                self.input.take(8)?;
                self.stack.push(Value::Opaque);
            }
            // Texts: BINUNICODE, SHORT_BINUNICODE, BINUNICODE8; Python 2's strings
            b'X' | b'T' => self.text(4)?,
            0x8c | b'U' => self.text(1)?,
            0x8d => self.text(8)?,
            b'V' | b'S' => {
                let line = self.input.line()?.trim_matches(['\'', '"']).to_owned();
                self.push(Object::Text(line));
            }
            // Bytes
            b'B' => self.skip_bytes(4)?,
            b'C' => self.skip_bytes(1)?,
            0x8e | 0x96 => self.skip_bytes(8)?,
            b')' => self.push(Object::Tuple(Vec::new())),
            b'}' => self.push(Object::Dict(Vec::new())),
            b']' => self.push(Object::List(Vec::new())),
            0x8f => self.stack.push(Value::Opaque),
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b't' => {
                let items = self.pop_mark()?;
                self.push(Object::Tuple(items));
            }
            b'l' => {
                let items = self.pop_mark()?;
                self.push(Object::List(items));
            }
            b'd' => {
                let items = pairs(self.pop_mark()?)?;
                self.push(Object::Dict(items));
            }
            // FROZENSET
            0x91 => {
                self.pop_mark()?;
                self.stack.push(Value::Opaque);
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(items)?;
            }
            // ADDITEMS
            0x90 => drop(self.pop_mark()?),
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set(vec![(key, value)])?;
            }
            b'u' => {
                let items = pairs(self.pop_mark()?)?;
                self.set(items)?;
            }
            // PUT, GET and MEMOIZE
            b'p' => {
                let key = self.index_line()?;
                self.put(key)?;
            }
            b'q' => {
                let key = self.input.number(1)?;
                self.put(key)?;
            }
            b'r' => {
                let key = self.input.number(4)?;
                self.put(key)?;
            }
            0x94 => self.put(self.memo.len() as u64)?,
            b'g' => {
                let key = self.index_line()?;
                self.get(key)?;
            }
            b'h' => {
                let key = self.input.number(1)?;
                self.get(key)?;
            }
            b'j' => {
                let key = self.input.number(4)?;
                self.get(key)?;
            }
            b'c' => {
                let (module, name) = (self.input.line()?, self.input.line()?);
                // As in `name`: no class that is known here has a longer one.
                let short = module.len() <= LONGEST_NAME && name.len() <= LONGEST_NAME;
                let [module, name] = if short { [module, name] } else { [""; 2] };
                self.push(Object::Global(module.to_owned(), name.to_owned()));
            }
            // STACK_GLOBAL
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let [module, name] = [module, name].map(|v| self.name(v).unwrap_or_default());
                self.push(Object::Global(module, name));
            }
            // REDUCE, NEWOBJ: callable, arguments
            b'R' | 0x81 => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                let result = self.call(callable, arguments)?;
                self.stack.push(result);
            }
            // NEWOBJ_EX: class, arguments, keywords
            0x92 => {
                for _ in 0..3 {
                    self.pop()?;
                }
                self.stack.push(Value::Opaque);
            }
            // INST, OBJ
            b'i' => {
                self.input.line()?;
                self.input.line()?;
                self.pop_mark()?;
                self.stack.push(Value::Opaque);
            }
            b'o' => {
                self.pop_mark()?;
                self.stack.push(Value::Opaque);
            }
            // BUILD: the state of an object, which stays what it is without
            b'b' => drop(self.pop()?),
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(storage);
            }
            other => return Err(format!("opcode {other:#04x} is not of a checkpoint")),
        }
        Ok(None)
    }

    fn push(&mut self, object: Object) {
        self.objects.push(object);
        self.stack.push(Value::At(self.objects.len() - 1));
    }

    /// The top of the stack above the last mark.
    fn top(&self) -> Result<Value> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.last() {
            Some(&top) if self.stack.len() > floor => Ok(top),
            _ => Err("a value is taken where there is none".to_owned()),
        }
    }

    fn pop(&mut self) -> Result<Value> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.marks.pop().ok_or("a mark is missing")?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn int(&mut self, bytes: usize) -> Result<()> {
        let n = self.input.number(bytes)?;
        self.stack.push(Value::Int(n as i64));
        Ok(())
    }

    /// A two's complement number behind its length; those above 64 bits are not
    /// ours.
    fn long(&mut self, bytes: usize) -> Result<()> {
        let digits = self.input.counted(bytes)?;
        let value = match digits.last() {
            None => Value::Int(0),
            Some(last) if digits.len() <= 8 => {
                let fill = if last & 0x80 == 0 { 0 } else { 0xff };
                let mut whole = [fill; 8];
                whole[..digits.len()].copy_from_slice(digits);
                Value::Int(i64::from_le_bytes(whole))
            }
            Some(_) => Value::Opaque,
        };
        self.stack.push(value);
        Ok(())
    }

    fn text(&mut self, bytes: usize) -> Result<()> {
        let text = text(self.input.counted(bytes)?)?.to_owned();
        self.push(Object::Text(text));
        Ok(())
    }

    fn skip_bytes(&mut self, bytes: usize) -> Result<()> {
        self.input.counted(bytes)?;
        self.stack.push(Value::Opaque);
        Ok(())
    }

    fn tuple(&mut self, n: usize) -> Result<()> {
        let mut items = (0..n).map(|_| self.pop()).collect::<Result<Vec<_>>>()?;
        items.reverse();
        self.push(Object::Tuple(items));
        Ok(())
    }

    fn append(&mut self, mut items: Vec<Value>) -> Result<()> {
        if let Value::At(i) = self.top()?
            && let Object::List(list) = &mut self.objects[i]
        {
            list.append(&mut items);
        }
        Ok(())
    }

    /// Items of a dict; those of opaque objects are passed over.
    fn set(&mut self, mut items: Vec<(Value, Value)>) -> Result<()> {
        if let Value::At(i) = self.top()?
            && let Object::Dict(dict) = &mut self.objects[i]
        {
            dict.append(&mut items);
        }
        Ok(())
    }

    fn index_line(&mut self) -> Result<u64> {
        let line = self.input.line()?;
        line.parse().map_err(|_| format!("{line:?} is no index"))
    }

    fn put(&mut self, key: u64) -> Result<()> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn get(&mut self, key: u64) -> Result<()> {
        let value = self.memo.get(&key).copied();
        self.stack
            .push(value.ok_or_else(|| format!("nothing is remembered as {key}"))?);
        Ok(())
    }

    pub(super) fn object(&self, value: Value) -> Option<&Object> {
        match value {
            Value::At(i) => self.objects.get(i),
            _ => None,
        }
    }

    /// A name. Texts that are too long for one are none: they would be copied with
    /// every mention.
    pub(super) fn name(&self, value: Value) -> Option<String> {
        match self.object(value)? {
            Object::Text(text) if text.len() <= LONGEST_NAME => Some(text.clone()),
            _ => None,
        }
    }

    pub(super) fn items(&self, value: Value) -> &[Value] {
        match self.object(value) {
            Some(Object::Tuple(items) | Object::List(items)) => items,
            _ => &[],
        }
    }
}

fn pairs(items: Vec<Value>) -> Result<Vec<(Value, Value)>> {
    if !items.len().is_multiple_of(2) {
        return Err("a key without a value".to_owned());
    }
    Ok(items.chunks_exact(2).map(|p| (p[0], p[1])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_values_of_protocols_2_and_4() {
        // pickle.dumps({"a": (1, -2, 300, None, True), "b": [2**40]}, protocol)
        let two = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01(K\x01J\xfe\xff\xff\xffM,\x01N\x88tq\x02X\x01\x00\x00\x00bq\x03]q\x04\x8a\x06\x00\x00\x00\x00\x00\x01au.";
        let four = b"\x80\x04\x95'\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94(K\x01J\xfe\xff\xff\xffM,\x01N\x88t\x94\x8c\x01b\x94]\x94\x8a\x06\x00\x00\x00\x00\x00\x01au.";
        for bytes in [&two[..], four] {
            let pickle = read(bytes).expect("read");
            let Some(Object::Dict(items)) = pickle.object(pickle.root) else {
                panic!("no dict")
            };
            assert_eq!(pickle.text(items[0].0), Some("a"));
            let Some(Object::Tuple(tuple)) = pickle.object(items[0].1) else {
                panic!("no tuple")
            };
            let want = [
                Value::Int(1),
                Value::Int(-2),
                Value::Int(300),
                Value::None,
                Value::Bool(true),
            ];
            assert_eq!(tuple, &want);
            let Some(Object::List(list)) = pickle.object(items[1].1) else {
                panic!("no list")
            };
            assert_eq!(list, &[Value::Int(1 << 40)]);
        }
    }

    #[test]
    fn foreign_code_is_never_run_and_comes_out_opaque() {
        // os.system("true") by REDUCE
        let bytes = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.";
        assert_eq!(read(bytes).expect("read").root, Value::Opaque);
    }

    #[test]
    fn deep_nesting_and_cycles_are_no_danger() {
        // A million lists, one in the other.
        let mut bytes = vec![b']'; 1_000_000];
        bytes.extend(vec![b'a'; 999_999]);
        bytes.push(b'.');
        read(&bytes).expect("read");
        // l = []; l.append(l)
        read(b"\x80\x02]q\x00h\x00a.").expect("read");
    }

    #[test]
    fn malformed_pickles_say_where() {
        for bytes in [
            &b""[..],
            b"\x80\x02",
            b".",
            b"(t",
            b"a",
            b"h\x07.",
            b"X\xff\xff\xff\xffa",
            b"\xff",
        ] {
            let error = read(bytes).err().expect("refused");
            assert!(error.starts_with("byte "), "{error}");
        }
    }
}
