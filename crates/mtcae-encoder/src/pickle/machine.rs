//! A restricted reader of Python pickles.
//!
//! It builds plain values and the tensors of `torch.save`; it never calls
//! anything. Every other class or function becomes an opaque value. The machine is
//! a loop over opcodes (Lib/pickletools.py of CPython describes them), values are
//! indices into one arena, so neither nesting nor sharing nor cycles can exhaust
//! the stack. Texts stay where they are in the pickle, and what is made of it has a
//! budget: a small multiple of its length.

use std::collections::HashMap;

use mtcae_nn::weights::shown;

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
pub(super) enum Object<'a> {
    Text(&'a str),
    Tuple(Box<[Value]>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    /// A class or function by module and name.
    Global(Box<[&'a str; 2]>),
    Storage(Box<Storage<'a>>),
    Tensor(Box<TensorRef<'a>>),
}

/// A storage of `torch.save`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage<'a> {
    /// The class, `FloatStorage` say.
    pub class: &'a str,
    /// Its name below `data/`.
    pub key: &'a str,
}

/// A view of a storage, in elements.
#[derive(Clone, Debug)]
pub(super) struct TensorRef<'a> {
    pub storage: Storage<'a>,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub stride: Vec<usize>,
}

/// All objects of a pickle, and its result.
pub(super) struct Pickle<'a> {
    objects: Vec<Object<'a>>,
    pub root: Value,
}

impl<'a> Pickle<'a> {
    pub fn object(&self, value: Value) -> Option<&Object<'a>> {
        match value {
            Value::At(index) => self.objects.get(index),
            _ => None,
        }
    }

    pub fn text(&self, value: Value) -> Option<&'a str> {
        match self.object(value)? {
            Object::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Of a class, a module or a storage.
const LONGEST_NAME: usize = 256;

/// Bytes that any pickle may be turned into; that of the largest model takes a tenth.
const LEAST_BUDGET: usize = 8 << 20;

pub(super) type Result<T> = std::result::Result<T, String>;

/// Runs a pickle. `Err` says what is wrong and where.
pub(super) fn read(bytes: &[u8]) -> Result<Pickle<'_>> {
    let mut machine = Machine {
        input: Input { bytes, at: 0 },
        objects: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        contents: 0,
        highest: 0,
    };
    // Memory that grows is had twice over at most, and the pickle itself is there too.
    let budget = (bytes.len() + bytes.len() / 2).max(LEAST_BUDGET);
    loop {
        let at = machine.input.at;
        let fault = |reason: String| format!("byte {at} of its pickle: {reason}");
        match machine.step().map_err(fault)? {
            None => {}
            Some(root) => {
                return Ok(Pickle {
                    objects: machine.objects,
                    root,
                });
            }
        }
        if machine.held() > budget {
            return Err(fault(format!(
                "what is made of it takes more than {budget} bytes"
            )));
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
    pub(super) objects: Vec<Object<'a>>,
    stack: Vec<Value>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u64, Value>,
    /// Bytes that objects hold besides themselves.
    contents: usize,
    /// The height that the stack has had.
    highest: usize,
}

impl<'a> Machine<'a> {
    /// Bytes of memory in use.
    fn held(&mut self) -> usize {
        self.highest = self.highest.max(self.stack.len());
        self.objects.len() * size_of::<Object<'_>>()
            + self.highest * size_of::<Value>()
            + self.marks.len() * size_of::<usize>()
            // A table is half empty at times.
            + self.memo.len() * 2 * size_of::<(u64, Value)>()
            + self.contents
    }

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
            b'1' => self.drop_to_mark()?,
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
                let line = self.input.line()?.trim_matches(['\'', '"']);
                self.push(Object::Text(line));
            }
            // Bytes
            b'B' => self.skip_bytes(4)?,
            b'C' => self.skip_bytes(1)?,
            0x8e | 0x96 => self.skip_bytes(8)?,
            b')' => self.push(Object::Tuple(Box::default())),
            b'}' => self.push(Object::Dict(Vec::new())),
            b']' => self.push(Object::List(Vec::new())),
            0x8f => self.stack.push(Value::Opaque),
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b't' => {
                let from = self.pop_mark()?;
                let items = self.stack.drain(from..).collect();
                self.push(Object::Tuple(items));
            }
            b'l' => {
                let from = self.pop_mark()?;
                let items = self.stack.drain(from..).collect();
                self.push(Object::List(items));
            }
            b'd' => {
                let from = self.pop_mark()?;
                let items = pairs(&self.stack[from..])?.iter();
                let items = items.map(|&[key, value]| (key, value)).collect();
                self.stack.truncate(from);
                self.push(Object::Dict(items));
            }
            // FROZENSET
            0x91 => {
                self.drop_to_mark()?;
                self.stack.push(Value::Opaque);
            }
            b'a' => {
                let from = self.topmost(1)?;
                self.append(from)?;
            }
            b'e' => {
                let from = self.pop_mark()?;
                self.append(from)?;
            }
            // ADDITEMS
            0x90 => self.drop_to_mark()?,
            b's' => {
                let from = self.topmost(2)?;
                self.set(from)?;
            }
            b'u' => {
                let from = self.pop_mark()?;
                self.set(from)?;
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
                let names = [self.input.line()?, self.input.line()?];
                // As in `name`: no class that is known here has a longer one.
                let short = names.iter().all(|name| name.len() <= LONGEST_NAME);
                let names = if short { names } else { [""; 2] };
                self.push(Object::Global(Box::new(names)));
            }
            // STACK_GLOBAL
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let names = [module, name].map(|v| self.name(v).unwrap_or_default());
                self.push(Object::Global(Box::new(names)));
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
                self.drop_to_mark()?;
                self.stack.push(Value::Opaque);
            }
            b'o' => {
                self.drop_to_mark()?;
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

    fn push(&mut self, object: Object<'a>) {
        let value = self.keep(object);
        self.stack.push(value);
    }

    /// Puts an object among the others.
    pub(super) fn keep(&mut self, object: Object<'a>) -> Value {
        self.contents += match &object {
            Object::Text(_) => 0,
            Object::Tuple(items) => size_of_val(&**items),
            Object::List(items) => size_of_val(&**items),
            Object::Dict(items) => size_of_val(&**items),
            Object::Global(names) => size_of_val(&**names),
            Object::Storage(storage) => size_of_val(&**storage),
            Object::Tensor(tensor) => {
                size_of_val(&**tensor) + 2 * size_of_val(tensor.shape.as_slice())
            }
        };
        self.objects.push(object);
        Value::At(self.objects.len() - 1)
    }

    /// Where the topmost `n` values above the last mark begin on the stack.
    fn topmost(&self, n: usize) -> Result<usize> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(n) {
            Some(from) if from >= floor => Ok(from),
            _ => Err("a value is taken where there is none".to_owned()),
        }
    }

    fn top(&self) -> Result<Value> {
        Ok(self.stack[self.topmost(1)?])
    }

    fn pop(&mut self) -> Result<Value> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    /// Where the values above the last mark begin, which it no longer is.
    fn pop_mark(&mut self) -> Result<usize> {
        let mark = self.marks.pop().ok_or("a mark is missing")?;
        Ok(mark.min(self.stack.len()))
    }

    fn drop_to_mark(&mut self) -> Result<()> {
        let from = self.pop_mark()?;
        self.stack.truncate(from);
        Ok(())
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
        let text = text(self.input.counted(bytes)?)?;
        self.push(Object::Text(text));
        Ok(())
    }

    fn skip_bytes(&mut self, bytes: usize) -> Result<()> {
        self.input.counted(bytes)?;
        self.stack.push(Value::Opaque);
        Ok(())
    }

    fn tuple(&mut self, n: usize) -> Result<()> {
        let from = self.topmost(n)?;
        let items = self.stack.drain(from..).collect();
        self.push(Object::Tuple(items));
        Ok(())
    }

    /// What the values from `from` on belong to: that below them.
    fn owner(&self, from: usize) -> Result<Value> {
        Ok(self.stack[self.topmost(self.stack.len() - from + 1)?])
    }

    fn append(&mut self, from: usize) -> Result<()> {
        if let Value::At(i) = self.owner(from)?
            && let Object::List(list) = &mut self.objects[i]
        {
            self.contents += size_of_val(&self.stack[from..]);
            list.extend_from_slice(&self.stack[from..]);
        }
        self.stack.truncate(from);
        Ok(())
    }

    /// Items of a dict; those of opaque objects are passed over.
    fn set(&mut self, from: usize) -> Result<()> {
        let owner = self.owner(from)?;
        let items = &self.stack[from..];
        let pairs = pairs(items)?;
        if let Value::At(i) = owner
            && let Object::Dict(dict) = &mut self.objects[i]
        {
            self.contents += size_of_val(items);
            dict.extend(pairs.iter().map(|&[key, value]| (key, value)));
        }
        self.stack.truncate(from);
        Ok(())
    }

    fn index_line(&mut self) -> Result<u64> {
        let line = self.input.line()?;
        line.parse()
            .map_err(|_| format!("{:?} is no index", shown(line)))
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

    pub(super) fn object(&self, value: Value) -> Option<&Object<'a>> {
        match value {
            Value::At(i) => self.objects.get(i),
            _ => None,
        }
    }

    /// A name. Texts that are too long for one are none.
    pub(super) fn name(&self, value: Value) -> Option<&'a str> {
        match self.object(value)? {
            Object::Text(text) if text.len() <= LONGEST_NAME => Some(text),
            _ => None,
        }
    }

    pub(super) fn items(&self, value: Value) -> &[Value] {
        match self.object(value) {
            Some(Object::Tuple(items)) => items,
            Some(Object::List(items)) => items,
            _ => &[],
        }
    }
}

fn pairs(items: &[Value]) -> Result<&[[Value; 2]]> {
    match items.as_chunks() {
        (pairs, []) => Ok(pairs),
        _ => Err("a key without a value".to_owned()),
    }
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
            assert_eq!(tuple[..], want);
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
        // A hundred thousand lists, one in the other.
        let mut bytes = vec![b']'; 100_000];
        bytes.extend(vec![b'a'; 99_999]);
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
