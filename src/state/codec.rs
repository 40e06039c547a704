//! Numbers, texts and values as bytes.
//!
//! Whole numbers are written seven bits at a time, the lowest first; the highest bit of a byte says
//! that more follow. So small numbers take one byte. Signed numbers alternate: 0, -1, 1, -2…

use crate::job::{Field, Value};

/// Appends to bytes.
pub(super) struct Writer<'a>(pub(super) &'a mut Vec<u8>);

/// Reads from bytes. `None` everywhere: they are not what was written.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Writer<'_> {
    pub(super) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub(super) fn flag(&mut self, flag: bool) {
        self.byte(flag.into());
    }

    pub(super) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.byte(number as u8 | 0x80);
            number >>= 7;
        }
        self.byte(number as u8);
    }

    pub(super) fn signed(&mut self, number: i64) {
        self.number(((number << 1) ^ (number >> 63)).cast_unsigned());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Whether there is one, and if so, what `write` writes of it.
    pub(super) fn option<T>(&mut self, option: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.flag(option.is_some());
        if let Some(inner) = option {
            write(self, inner);
        }
    }

    /// A table of fields, as [`Reader::value`] reads it.
    pub(super) fn table<'f>(
        &mut self,
        entries: impl ExactSizeIterator<Item = (&'f str, Field<'f>)>,
    ) {
        self.byte(TABLE);
        self.number(entries.len() as u64);
        for (name, field) in entries {
            self.text(name);
            self.field(field);
        }
    }

    fn field(&mut self, field: Field<'_>) {
        match field {
            Field::Bool(flag) => self.byte(if flag { TRUE } else { FALSE }),
            Field::Integer(number) => {
                self.byte(INTEGER);
                self.signed(number);
            }
            Field::Float(number) => {
                self.byte(FLOAT);
                self.0.extend_from_slice(&number.to_bits().to_le_bytes());
            }
            Field::String(text) => self.string(&text),
            Field::List(items) => {
                self.list(items.len());
                items.into_iter().for_each(|item| self.field(item));
            }
            Field::Texts(texts) => {
                self.list(texts.len());
                texts.iter().for_each(|text| self.string(text));
            }
            Field::Names(names) => {
                self.list(names.len());
                names.iter().for_each(|name| self.string(name));
            }
            Field::Table(entries) => self.table(entries.into_iter()),
            Field::TextTable(table) => {
                let entries: Vec<_> = table.entries_after(None).collect();
                let entries = entries.into_iter();
                self.table(entries.map(|(name, text)| (name, Field::String(text.into()))));
            }
        }
    }

    fn list(&mut self, length: usize) {
        self.byte(LIST);
        self.number(length as u64);
    }

    fn string(&mut self, text: &str) {
        self.byte(STRING);
        self.text(text);
    }
}

impl<'a> Reader<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let (mut number, mut shift) = (0, 0);
        let mut bytes = self.0.iter();
        while shift < u64::BITS {
            let byte = *bytes.next()?;
            number |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                self.0 = bytes.as_slice();
                return Some(number);
            }
        }
        None
    }

    pub(super) fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    /// A number of things, each of at least one byte: never more than bytes that are left.
    pub(super) fn count(&mut self) -> Option<usize> {
        let count = usize::try_from(self.number()?).ok()?;
        (count <= self.0.len()).then_some(count)
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.count()?;
        self.take(length)
    }

    /// As many as are said to be there, each read by `read`.
    pub(super) fn many<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let count = self.count()?;
        let mut all = Vec::with_capacity(count.min(MOST_EXPECTED));
        for _ in 0..count {
            all.push(read(self)?);
        }
        Some(all)
    }

    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        str::from_utf8(self.bytes()?).ok()
    }

    pub(super) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Some(None) }
    }

    /// What [`Writer::table`] has written.
    pub(super) fn value(&mut self) -> Option<Value> {
        self.value_within(DEEPEST)
    }

    fn value_within(&mut self, depth: usize) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        Some(match self.byte()? {
            FALSE => Value::Bool(false),
            TRUE => Value::Bool(true),
            INTEGER => Value::Integer(self.signed()?),
            FLOAT => {
                let bits = self.take(8)?.try_into().ok()?;
                Value::Float(f64::from_bits(u64::from_le_bytes(bits)))
            }
            STRING => Value::String(self.text()?.to_owned()),
            LIST => Value::List(self.many(|items| items.value_within(depth))?),
            TABLE => {
                let entry = |entries: &mut Reader<'a>| {
                    Some((entries.text()?.to_owned(), entries.value_within(depth)?))
                };
                Value::Table(self.many(entry)?)
            }
            _ => return None,
        })
    }
}

const FALSE: u8 = 0;
const TRUE: u8 = 1;
const INTEGER: u8 = 2;
const FLOAT: u8 = 3;
const STRING: u8 = 4;
const LIST: u8 = 5;
const TABLE: u8 = 6;

/// More than any specification has.
const DEEPEST: usize = 16;
/// Memory for so many things is taken before the first is read.
const MOST_EXPECTED: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_they_were_written() {
        for number in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u64::MAX] {
            let mut bytes = Vec::new();
            Writer(&mut bytes).number(number);
            assert_eq!(Reader(&bytes).number(), Some(number));
            assert_eq!(Reader(&bytes[..bytes.len() - 1]).number(), None);
        }
        for number in [0, -1, 1, -2, 63, -64, 64, i64::MIN, i64::MAX] {
            let mut bytes = Vec::new();
            Writer(&mut bytes).signed(number);
            assert_eq!(Reader(&bytes).signed(), Some(number));
        }
        assert_eq!(Reader(&[0xff; 20]).number(), None);
    }

    #[test]
    fn a_length_beyond_the_end_allocates_nothing() {
        assert_eq!(Reader(&[LIST, 0xff, 0xff, 0xff, 0xff, 0x0f]).value(), None);
        assert_eq!(Reader(&[LIST, 1].repeat(100)).value(), None, "too deep");
    }
}
