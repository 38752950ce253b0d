//! JSON objects of the server's, read field by field. There is one reader for any JSON; what an object
//! of the API has of its own is the names of its fields.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Levels below an object of the API that are read: as deep as a linked post's attachments lie.
const DEPTH: usize = 12;

/// A kind of value that a field of an object can have.
pub(super) trait Field: Default {
    /// What `value` is; nothing if it is of another kind.
    fn of(value: Value) -> Option<Self>;
}

/// The fields of an object, each to be taken once.
#[derive(Default)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// The field; its default if it is missing or null. Nothing: it is of another kind.
    pub(super) fn optional<T: Field>(&mut self, name: &str) -> Option<T> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Some(T::default()),
            Some(value) => T::of(value),
        }
    }

    /// The field, if it is there and of that kind.
    pub(super) fn required<T: Field>(&mut self, name: &str) -> Option<T> {
        T::of(self.0.remove(name)?)
    }

    /// A text that programs set, who may as well set a number; empty where it is anything else.
    pub(super) fn shown(&mut self, name: &str) -> Option<String> {
        Some(match self.0.remove(name) {
            Some(Value::String(text)) => text,
            Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
            _ => String::new(),
        })
    }

    /// The titles and values in an array of objects.
    pub(super) fn pairs(&mut self, name: &str) -> Option<Vec<(String, String)>> {
        let items: Vec<Value> = self.optional(name).unwrap_or_default();
        let pair = |item| {
            let mut fields = Fields::of(item).unwrap_or_default();
            Some((fields.shown("title")?, fields.shown("value")?))
        };
        items.into_iter().map(pair).collect()
    }

    /// Whether there is such a field, even if it is null.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

/// Structs of the API's objects. Behind each field stands whether the object must have it, and its
/// name there.
macro_rules! objects {
    ($(
        $(#[$about:meta])* $vis:vis struct $name:ident {$(
            $(#[$what:meta])* $field_vis:vis $field:ident: $type:ty = $take:ident($key:literal),
        )*}
    )*) => {$(
        $(#[$about])*
        #[derive(Clone, Debug, Default)]
        $vis struct $name {
            $($(#[$what])* $field_vis $field: $type,)*
        }

        impl Field for $name {
            fn of(value: Value) -> Option<$name> {
                let mut fields = Fields::of(value)?;
                Some($name {
                    $($field: fields.$take($key)?,)*
                })
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                fields::read(deserializer)
            }
        }
    )*};
}

pub(super) use objects;

/// Reads an object of the API.
pub(super) fn read<'de, T: Field, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let value = Shallow { depth: DEPTH }.deserialize(deserializer)?;
    T::of(value).ok_or_else(|| Error::custom("a field is missing or of another kind"))
}

impl Field for Fields {
    fn of(value: Value) -> Option<Fields> {
        match value {
            Value::Object(fields) => Some(Fields(fields)),
            _ => None,
        }
    }
}

impl Field for Value {
    fn of(value: Value) -> Option<Value> {
        Some(value)
    }
}

impl Field for String {
    fn of(value: Value) -> Option<String> {
        match value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
}

impl Field for bool {
    fn of(value: Value) -> Option<bool> {
        value.as_bool()
    }
}

/// Also a number that no server should give: a fraction without its rest, what is negative as 0. One
/// odd number does not make a whole list unreadable.
impl Field for u64 {
    fn of(value: Value) -> Option<u64> {
        value.as_u64().or_else(|| Some(value.as_f64()? as u64))
    }
}

impl Field for u32 {
    fn of(value: Value) -> Option<u32> {
        u64::of(value)?.try_into().ok()
    }
}

impl<T: Field> Field for Vec<T> {
    fn of(value: Value) -> Option<Vec<T>> {
        match value {
            Value::Array(items) => items.into_iter().map(T::of).collect(),
            _ => None,
        }
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
