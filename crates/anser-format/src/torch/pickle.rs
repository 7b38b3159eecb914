//! Reads pickles without running them: a closed list of instructions builds plain values, and a closed list of names
//! stands for what PyTorch calls. Nothing is imported, looked up or called, whatever a file asks for.
//!
//! A pickle is a program for a stack machine, which makes an [`Object`].

use std::collections::HashMap;

use super::invalid;
use super::object::{Global, Object, PickledTensor, Span, Storage, Value};
use crate::error::FormatError;

/// The longest pickle that is read: the one of a 13B model has half a megabyte.
const MAX_N_BYTES: usize = 64 << 20;
/// The most values on the stack, in containers and remembered.
const MAX_VALUES: usize = 2_000_000;
/// The most containers that are open at a time.
const MAX_DEPTH: usize = 64;
/// The most values on the stack: Python puts 1,000 entries of a dictionary on it at a time.
const MAX_HEIGHT: usize = 1 << 16;

/// Reads the pickle at the start of `bytes`; returns the object, and how many bytes the pickle has. `item` is what the
/// pickle is called in errors about `file`.
pub(crate) fn read<'a>(file: &str, item: &str, bytes: &'a [u8]) -> Result<(Object<'a>, usize), FormatError> {
    let bytes = &bytes[..bytes.len().min(MAX_N_BYTES)];
    let mut machine = Machine::new(bytes);
    match machine.run() {
        Ok(()) => {
            let n_bytes = machine.at;
            Ok((machine.object, n_bytes))
        }
        Err(problem) => Err(invalid(file, &format!("{item}, byte {}", machine.instruction), problem)),
    }
}

struct Machine<'a> {
    object: Object<'a>,
    /// The next byte.
    at: usize,
    /// The first byte of the instruction that is carried out.
    instruction: usize,
    stack: Vec<Value>,
    /// Heights of the stack at open containers.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    n_values: usize,
}

type Done<T> = Result<T, String>;

const CUT_SHORT: &str = "it is cut short; the file is damaged, get it again";

impl<'a> Machine<'a> {
    fn new(bytes: &'a [u8]) -> Machine<'a> {
        let object = Object::new(bytes);
        Machine { object, at: 0, instruction: 0, stack: vec![], marks: vec![], memo: HashMap::new(), n_values: 0 }
    }

    fn run(&mut self) -> Done<()> {
        loop {
            self.instruction = self.at;
            let [code] = self.array()?;
            if code == b'.' {
                self.object.root = self.pop()?;
                return Ok(());
            }
            self.carry_out(code)?;
        }
    }

    /// One instruction, called by its name in Python's `pickletools`.
    fn carry_out(&mut self, code: u8) -> Done<()> {
        match code {
            // PROTO
            0x80 => {
                let [version] = self.array()?;
                if !(2..=5).contains(&version) {
                    return Err(format!("pickle protocol {version}, but 2 to 5 are read"));
                }
                Ok(())
            }
            // FRAME: a hint about lengths
            0x95 => self.array::<8>().map(drop),
            b'}' => self.new_dict(),
            b']' => self.new_list(),
            b')' => self.push_tuple(0),
            // MARK
            b'(' => {
                if self.marks.len() == MAX_DEPTH {
                    return Err(format!("more than {MAX_DEPTH} open containers"));
                }
                self.marks.push(self.stack.len());
                Ok(())
            }
            // TUPLE
            b't' => {
                let n = self.stack.len() - self.pop_mark()?;
                self.push_tuple(n)
            }
            0x85 => self.push_tuple(1),
            0x86 => self.push_tuple(2),
            0x87 => self.push_tuple(3),
            // BINUNICODE
            b'X' => {
                let n = u32::from_le_bytes(self.array()?);
                self.push_text(n)
            }
            // SHORT_BINUNICODE
            0x8c => {
                let [n] = self.array()?;
                self.push_text(n.into())
            }
            // BININT, BININT1, BININT2, LONG1
            b'J' => {
                let number = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(number.into()))
            }
            b'K' => {
                let [number] = self.array()?;
                self.push(Value::Int(number.into()))
            }
            b'M' => {
                let number = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(number.into()))
            }
            0x8a => {
                let [n] = self.array()?;
                let number = integer(self.take(n.into())?);
                self.push(number)
            }
            // BINFLOAT
            b'G' => {
                let number = f64::from_be_bytes(self.array()?);
                self.push(Value::Float(number))
            }
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            // GLOBAL
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push_global(module, name)
            }
            // STACK_GLOBAL
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => {
                    self.push_global(self.object.text(module), self.object.text(name))
                }
                _ => Err("a name that is no text".into()),
            },
            // BINPUT, LONG_BINPUT, MEMOIZE
            b'q' => {
                let [number] = self.array()?;
                self.remember(number.into())
            }
            b'r' => {
                let number = u32::from_le_bytes(self.array()?);
                self.remember(number)
            }
            0x94 => self.remember(self.memo.len() as u32), // Fewer than MAX_VALUES.
            // BINGET, LONG_BINGET
            b'h' => {
                let [number] = self.array()?;
                self.recall(number.into())
            }
            b'j' => {
                let number = u32::from_le_bytes(self.array()?);
                self.recall(number)
            }
            b'Q' => self.push_storage(),
            b'R' => self.reduce(),
            // BUILD: attributes of a dictionary, such as the versions of a model's modules
            b'b' => {
                self.pop()?;
                match self.stack.last() {
                    Some(Value::Dict(_)) => Ok(()),
                    _ => Err("attributes of something else than a dictionary".into()),
                }
            }
            // SETITEM, SETITEMS
            b's' => self.set_items(self.stack.len().checked_sub(2).ok_or(UNDERFLOW)?),
            b'u' => {
                let start = self.pop_mark()?;
                self.set_items(start)
            }
            // APPEND, APPENDS
            b'a' => self.append(self.stack.len().checked_sub(1).ok_or(UNDERFLOW)?),
            b'e' => {
                let start = self.pop_mark()?;
                self.append(start)
            }
            _ => Err(format!(
                "the instruction 0x{code:02x}{}, which saved models do not need; nothing was run",
                instruction_name(code).map_or(String::new(), |name| format!(" ({name})"))
            )),
        }
    }

    /// The next bytes.
    fn take(&mut self, n: usize) -> Done<&'a [u8]> {
        let bytes = self.object.bytes.get(self.at..).and_then(|rest| rest.get(..n)).ok_or(CUT_SHORT)?;
        self.at += n;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Done<[u8; N]> {
        let bytes = self.take(N)?;
        bytes.first_chunk().copied().ok_or_else(|| CUT_SHORT.into())
    }

    /// The bytes up to the next end of a line.
    fn line(&mut self) -> Done<&'a str> {
        /// Longer than every name on the list.
        const MAX_LINE_N_BYTES: usize = 200;
        let rest = &self.object.bytes[self.at..];
        let end = rest.iter().take(MAX_LINE_N_BYTES).position(|&byte| byte == b'\n').ok_or("a name without an end")?;
        self.at += end + 1;
        std::str::from_utf8(&rest[..end]).map_err(|_| "a name that is not UTF-8".into())
    }

    fn count(&mut self, n: usize) -> Done<()> {
        self.n_values += n;
        if self.n_values > MAX_VALUES {
            return Err(format!("more than {MAX_VALUES} values"));
        }
        Ok(())
    }

    fn push(&mut self, value: Value) -> Done<()> {
        self.count(1)?;
        if self.stack.len() == MAX_HEIGHT {
            return Err(format!("more than {MAX_HEIGHT} values at a time"));
        }
        self.stack.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Done<Value> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(UNDERFLOW.into());
        }
        self.stack.pop().ok_or_else(|| UNDERFLOW.into())
    }

    fn pop_mark(&mut self) -> Done<usize> {
        self.marks.pop().ok_or_else(|| UNDERFLOW.into())
    }

    fn push_text(&mut self, n: u32) -> Done<()> {
        let start = self.at as u32; // Less than MAX_N_BYTES.
        let bytes = self.take(n as usize)?;
        if std::str::from_utf8(bytes).is_err() {
            return Err("a text that is not UTF-8".into());
        }
        self.push(Value::Text(Span { start, len: n }))
    }

    /// Makes a tuple of the uppermost `n` values.
    fn push_tuple(&mut self, n: usize) -> Done<()> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let start = self.stack.len().checked_sub(n).filter(|&start| start >= floor).ok_or(UNDERFLOW)?;
        self.count(n)?;
        let span = Span { start: self.object.items.len() as u32, len: n as u32 }; // At most MAX_VALUES.
        self.object.items.extend(self.stack.drain(start..));
        self.push(Value::Tuple(span))
    }

    fn new_dict(&mut self) -> Done<()> {
        self.object.dicts.push(vec![]);
        self.push(Value::Dict(self.object.dicts.len() as u32 - 1))
    }

    fn new_list(&mut self) -> Done<()> {
        self.object.lists.push(vec![]);
        self.push(Value::List(self.object.lists.len() as u32 - 1))
    }

    /// Moves keys and values from `start` on into the dictionary below them.
    fn set_items(&mut self, start: usize) -> Done<()> {
        let n = self.stack.len().checked_sub(start).ok_or(UNDERFLOW)?;
        if !n.is_multiple_of(2) {
            return Err("a key without a value".into());
        }
        let Some(Value::Dict(dict)) = start.checked_sub(1).and_then(|at| self.stack.get(at)).copied() else {
            return Err("entries of something else than a dictionary".into());
        };
        self.count(n)?;
        for pair in self.stack[start..].as_chunks::<2>().0 {
            let [key, value] = *pair;
            if matches!(key, Value::List(_) | Value::Dict(_)) {
                return Err("a list or dictionary as a key".into());
            }
            self.object.dicts[dict as usize].push((key, value));
        }
        self.stack.truncate(start);
        Ok(())
    }

    /// Moves the values from `start` on into the list below them.
    fn append(&mut self, start: usize) -> Done<()> {
        let Some(Value::List(list)) = start.checked_sub(1).and_then(|at| self.stack.get(at)).copied() else {
            return Err("items of something else than a list".into());
        };
        self.count(self.stack.len() - start)?;
        self.object.lists[list as usize].extend(self.stack.drain(start..));
        Ok(())
    }

    fn remember(&mut self, number: u32) -> Done<()> {
        let value = *self.stack.last().ok_or(UNDERFLOW)?;
        self.count(1)?;
        self.memo.insert(number, value);
        Ok(())
    }

    fn recall(&mut self, number: u32) -> Done<()> {
        let value = *self.memo.get(&number).ok_or_else(|| format!("value number {number}, which there is not"))?;
        self.push(value)
    }

    fn push_global(&mut self, module: &str, name: &str) -> Done<()> {
        match Global::find(module, name) {
            Some(global) => self.push(Value::Global(global)),
            None => Err(format!(
                "it asks for {:?}, which saved models do not need; nothing was run, and the file may be malicious",
                abbreviated(&format!("{module}.{name}"))
            )),
        }
    }

    /// BINPERSID: `('storage', class, key, device, length)`, in the legacy container with a view after them.
    fn push_storage(&mut self) -> Done<()> {
        let Value::Tuple(id) = self.pop()? else { return Err("a persistent id that is no tuple".into()) };
        match *self.object.tuple(id) {
            [
                Value::Text(kind),
                Value::Global(Global::Storage(element)),
                Value::Text(key),
                Value::Text(_),
                Value::Int(len),
            ]
            | [
                Value::Text(kind),
                Value::Global(Global::Storage(element)),
                Value::Text(key),
                Value::Text(_),
                Value::Int(len),
                Value::None,
            ] if self.object.text(kind) == "storage" => {
                self.object.storages.push(Storage { element, key, len });
                self.push(Value::Storage(self.object.storages.len() as u32 - 1))
            }
            _ => Err("a persistent id that is none of a storage".into()),
        }
    }

    /// REDUCE: what PyTorch's functions would make of their arguments.
    fn reduce(&mut self) -> Done<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let (Value::Global(function), Value::Tuple(span)) = (function, arguments) else {
            return Err("a call of something that is no function".into());
        };
        let arguments = self.object.tuple(span);
        match (function, arguments) {
            (Global::OrderedDict, []) => self.new_dict(),
            (Global::Size, [Value::Tuple(shape)]) => {
                let shape = Value::Tuple(*shape);
                self.push(shape)
            }
            // Whether it needs a gradient, and hooks.
            (Global::RebuildParameter, [Value::Tensor(tensor), _, _]) => {
                let tensor = Value::Tensor(*tensor);
                self.push(tensor)
            }
            // Whether it needs a gradient, hooks, and in newer files metadata.
            (
                Global::RebuildTensor,
                [Value::Storage(storage), Value::Int(offset), Value::Tuple(shape), Value::Tuple(strides), _, _, ..],
            ) if arguments.len() <= 7 => {
                let tensor = PickledTensor { storage: *storage, offset: *offset, shape: *shape, strides: *strides };
                self.object.tensors.push(tensor);
                self.push(Value::Tensor(self.object.tensors.len() as u32 - 1))
            }
            (Global::OrderedDict | Global::Size | Global::RebuildParameter | Global::RebuildTensor, _) => {
                Err(format!("{function:?} with other arguments than PyTorch writes"))
            }
            (Global::Storage(_), _) => Err("a call of a storage's class".into()),
        }
    }
}

const UNDERFLOW: &str = "an instruction without its operands; the file is damaged";

/// A little-endian integer of any length in two's complement.
fn integer(bytes: &[u8]) -> Value {
    let Some(&last) = bytes.last() else { return Value::Int(0) };
    if bytes.len() > size_of::<i64>() {
        return Value::BigInt;
    }
    let mut wide = [if last & 0x80 != 0 { 0xff } else { 0 }; size_of::<i64>()];
    wide[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(wide))
}

/// Names of instructions that could run something or that only old Python writes.
fn instruction_name(code: u8) -> Option<&'static str> {
    Some(match code {
        b'i' => "INST",
        b'o' => "OBJ",
        b'P' => "PERSID",
        0x81 => "NEWOBJ",
        0x92 => "NEWOBJ_EX",
        0x82..=0x84 => "EXT",
        b'B' | b'C' | 0x8e => "BINBYTES",
        b'T' | b'U' => "BINSTRING",
        0x8b => "LONG4",
        0x8d => "BINUNICODE8",
        0x8f | 0x90 => "SET",
        0x96 => "BYTEARRAY8",
        _ => return None,
    })
}

/// The beginning of a text that may be long.
pub(super) fn abbreviated(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Object<'_>, String> {
        super::read("m.pth", "the pickle", bytes).map(|(object, _)| object).map_err(|error| error.to_string())
    }

    #[test]
    fn integers_have_any_length() {
        let cases: [(&[u8], Value); 6] = [
            (&[], Value::Int(0)),
            (&[0xff], Value::Int(-1)),
            (&[0x80, 0], Value::Int(128)),
            (&[0, 0, 0, 0, 0, 0, 0, 0x80], Value::Int(i64::MIN)),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], Value::Int(i64::MAX)),
            (&[1; 9], Value::BigInt),
        ];
        for (bytes, expected) in cases {
            assert_eq!(integer(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn containers_hold_what_was_put_into_them() {
        // {"a": [1, (2, 3)]}, as Python 3 writes it with protocol 2, and with a memo
        let object = read(b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01]q\x02(K\x01K\x02K\x03\x86q\x03es.").unwrap();
        let Value::Dict(dict) = object.root else { panic!("{:?}", object.root) };
        let [(Value::Text(key), Value::List(list))] = object.dict(dict) else { panic!("{:?}", object.dict(dict)) };
        assert_eq!(object.text(*key), "a");
        let [Value::Int(1), Value::Tuple(tuple)] = object.list(*list) else { panic!("{:?}", object.list(*list)) };
        assert_eq!(object.tuple(*tuple), [Value::Int(2), Value::Int(3)]);
    }

    #[test]
    fn operands_do_not_come_from_outside_of_an_open_container() {
        for bytes in [&b"\x80\x02K\x01(\x85."[..], b"\x80\x02}K\x01(K\x02s.", b"\x80\x02K\x01(.", b"\x80\x02}(s."] {
            let Err(error) = read(bytes) else { panic!("{bytes:?} was read") };
            assert!(error.contains("operands") || error.contains("else"), "{error}");
        }
    }

    #[test]
    fn what_would_run_something_is_named() {
        let error = read(b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.").err().unwrap();
        assert!(error.contains("\"os.system\"") && error.contains("nothing was run"), "{error}");
        let error = read(b"\x80\x02(ios\nsystem\n.").err().unwrap();
        assert!(error.contains("INST"), "{error}");
    }

    #[test]
    fn a_tuple_in_itself_a_million_million_times_is_small() {
        // a = (); a = (a, a, a), remembered and fetched again, 40 times
        let mut bytes = b"\x80\x02)q\x00".to_vec();
        for _ in 0..40 {
            bytes.extend(b"h\x00h\x00h\x00\x87q\x00");
        }
        bytes.push(b'.');
        let object = read(&bytes).unwrap();
        assert!(object.items.len() == 120);
    }
}
