//! JSON objects of the server's, read field by field. There is one reader for any JSON; what an object
//! of the API has of its own is the names of its fields.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::types::ServerTime;

/// Levels below an object of the API that are read: as deep as a linked post's attachments lie.
const DEPTH: usize = 12;

/// The fields of an object, each to be taken once. What is missing or null is the default.
#[derive(Default)]
pub(super) struct Fields(Map<String, Value>);

/// A field that is missing or of another kind than it should be.
#[derive(Debug)]
pub(super) struct Odd(&'static str);

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is missing or of another kind", self.0)
    }
}

/// Reads an object and what `make` takes from it.
pub(super) fn read<'de, T, D: Deserializer<'de>>(
    deserializer: D,
    make: fn(Fields) -> Result<T, Odd>,
) -> Result<T, D::Error> {
    let value = Shallow { depth: DEPTH }.deserialize(deserializer)?;
    Fields::of(value, "object")
        .and_then(make)
        .map_err(Error::custom)
}

impl Fields {
    /// The fields of `value`, which is called `name`.
    fn of(value: Value, name: &'static str) -> Result<Fields, Odd> {
        match value {
            Value::Object(fields) => Ok(Fields(fields)),
            _ => Err(Odd(name)),
        }
    }

    /// The field as it is; null if it is missing.
    pub(super) fn take(&mut self, name: &'static str) -> Value {
        self.0.remove(name).unwrap_or_default()
    }

    /// Whether there is such a field, even if it is null.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A text that must be there.
    pub(super) fn required(&mut self, name: &'static str) -> Result<String, Odd> {
        match self.take(name) {
            Value::String(text) => Ok(text),
            _ => Err(Odd(name)),
        }
    }

    /// A text.
    pub(super) fn text(&mut self, name: &'static str) -> Result<String, Odd> {
        match self.take(name) {
            Value::String(text) => Ok(text),
            Value::Null => Ok(String::new()),
            _ => Err(Odd(name)),
        }
    }

    /// A number, also one that no server should give: a fraction without its rest, what is negative
    /// as 0. One odd number does not make a whole list unreadable.
    pub(super) fn whole(&mut self, name: &'static str) -> Result<u64, Odd> {
        match self.take(name) {
            Value::Number(number) => {
                let fraction = || number.as_f64().unwrap_or_default() as u64;
                Ok(number.as_u64().unwrap_or_else(fraction))
            }
            Value::Null => Ok(0),
            _ => Err(Odd(name)),
        }
    }

    /// A number of 32 bits.
    pub(super) fn count(&mut self, name: &'static str) -> Result<u32, Odd> {
        u32::try_from(self.whole(name)?).map_err(|_| Odd(name))
    }

    /// A moment.
    pub(super) fn time(&mut self, name: &'static str) -> Result<ServerTime, Odd> {
        self.whole(name).map(ServerTime)
    }

    /// Yes or no.
    pub(super) fn flag(&mut self, name: &'static str) -> Result<bool, Odd> {
        match self.take(name) {
            Value::Bool(flag) => Ok(flag),
            Value::Null => Ok(false),
            _ => Err(Odd(name)),
        }
    }

    /// An object.
    pub(super) fn object(&mut self, name: &'static str) -> Result<Fields, Odd> {
        match self.take(name) {
            Value::Null => Ok(Fields::default()),
            value => Fields::of(value, name),
        }
    }

    /// What is in an array.
    pub(super) fn list(&mut self, name: &'static str) -> Result<Vec<Value>, Odd> {
        match self.take(name) {
            Value::Array(items) => Ok(items),
            Value::Null => Ok(Vec::new()),
            _ => Err(Odd(name)),
        }
    }

    /// The texts in an array.
    pub(super) fn texts(&mut self, name: &'static str) -> Result<Vec<String>, Odd> {
        let text = |item| match item {
            Value::String(text) => Ok(text),
            _ => Err(Odd(name)),
        };
        self.list(name)?.into_iter().map(text).collect()
    }

    /// The objects in an array.
    pub(super) fn objects(&mut self, name: &'static str) -> Result<Vec<Fields>, Odd> {
        let items = self.list(name)?.into_iter();
        items.map(|item| Fields::of(item, name)).collect()
    }
}

/// Reads any JSON value; arrays and objects below more than `depth` others as null. A `Value` of a
/// property that is nested 128 deep is an error, and one such post would make its list unreadable.
pub(super) struct Shallow {
    pub(super) depth: usize,
}

impl<'de> DeserializeSeed<'de> for Shallow {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shallow {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Value, S::Error> {
        let Some(depth) = self.depth.checked_sub(1) else {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Value::Null);
        };
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Shallow { depth })? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Value, M::Error> {
        let Some(depth) = self.depth.checked_sub(1) else {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Value::Null);
        };
        let mut fields = serde_json::Map::new();
        while let Some(key) = map.next_key()? {
            fields.insert(key, map.next_value_seed(Shallow { depth })?);
        }
        Ok(Value::Object(fields))
    }
}
