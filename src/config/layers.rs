//! TOML files laid one over the other, read value by value: every value knows its file and its line.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::ConfigError;

/// One parsed file.
pub struct File<'a> {
    pub path: &'a Path,
    text: &'a str,
    table: DeTable<'a>,
}

impl<'a> File<'a> {
    pub fn parse(path: &'a Path, text: &'a str) -> Result<File<'a>, ConfigError> {
        match DeTable::parse(text) {
            Ok(table) => Ok(File {
                path,
                text,
                table: table.into_inner(),
            }),
            Err(error) => {
                let offset = error.span().map_or(0, |span| span.start);
                let place = format!("{}:{}", path.display(), line_at(text.as_bytes(), offset));
                // The message is made of fixed texts: it quotes nothing of the file.
                let problem = format!("is not TOML: {}", error.message());
                Err(ConfigError::new(place, problem))
            }
        }
    }

    pub fn place(&self, offset: usize) -> String {
        format!(
            "{}:{}",
            self.path.display(),
            line_at(self.text.as_bytes(), offset)
        )
    }
}

/// A table as all the files together give it: what a later file says holds.
pub struct Table<'a> {
    /// Dotted, with a dot at its end; empty for the top level.
    pub name: String,
    /// The config file.
    main: &'a File<'a>,
    /// The files that have the table, the last one first.
    pub layers: Vec<(&'a File<'a>, &'a DeTable<'a>)>,
}

impl<'a> Table<'a> {
    pub fn top(files: &'a [File<'a>]) -> Option<Table<'a>> {
        let layers = files.iter().rev().map(|file| (file, &file.table));
        Some(Table {
            name: String::new(),
            main: files.first()?,
            layers: layers.collect(),
        })
    }

    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        self.values(key).next()
    }

    fn values(&self, key: &str) -> impl Iterator<Item = Value<'a>> {
        self.layers.iter().filter_map(move |(file, table)| {
            let value = table.get(key)?;
            let name = format!("{}{}", self.name, key.escape_debug());
            Some(Value {
                name,
                file,
                offset: value.span().start,
                value: value.get_ref(),
            })
        })
    }

    /// The table at `key`; an empty one if there is none.
    pub fn table(&self, key: &str) -> Result<Table<'a>, ConfigError> {
        let layers = self.values(key).map(|value| match value.value {
            DeValue::Table(table) => Ok((value.file, table)),
            _ => Err(value.error(format!("must be a table; write [{}]", value.name))),
        });
        Ok(Table {
            name: format!("{}{}.", self.name, key.escape_debug()),
            main: self.main,
            layers: layers.collect::<Result<_, _>>()?,
        })
    }

    /// The text at `key`, without white space around it; `None` also if that is empty.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, ConfigError> {
        let text = self.get(key).map(|value| value.text()).transpose()?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    /// The values of the list at `key`; none if there is no such key.
    pub fn items(&self, key: &str) -> Result<Vec<Value<'a>>, ConfigError> {
        self.get(key).map_or(Ok(Vec::new()), Value::items)
    }

    /// The texts of the list at `key`, without blank ones.
    pub fn texts(&self, key: &str) -> Result<Vec<String>, ConfigError> {
        let mut texts = Vec::new();
        for item in self.items(key)? {
            texts.push(item.text()?.to_owned());
        }
        texts.retain(|text| !text.is_empty());
        Ok(texts)
    }

    pub fn flag(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        match self.get(key) {
            None => Ok(default),
            Some(Value {
                value: DeValue::Boolean(flag),
                ..
            }) => Ok(*flag),
            Some(value) => Err(value.error("must be true or false, without quotes")),
        }
    }

    pub fn whole(
        &self,
        key: &str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Result<u64, ConfigError> {
        let Some(value) = self.get(key) else {
            return Ok(default);
        };
        let number = match value.value {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let (least, most) = range.into_inner();
                value.error(format!(
                    "must be a whole number from {least} to {most}, without quotes"
                ))
            })
    }

    /// A number, with a fraction or not; `bounds` is `range` for a person.
    pub fn number(
        &self,
        key: &str,
        range: RangeInclusive<f64>,
        bounds: &str,
    ) -> Result<Option<f64>, ConfigError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let number = match value.value {
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => None,
        };
        match number.filter(|number| range.contains(number)) {
            None => Err(value.error(format!("must be a number {bounds}, without quotes"))),
            number => Ok(number),
        }
    }

    pub fn missing(&self, key: &str, problem: &str) -> ConfigError {
        let file = self.layers.first().map_or(self.main, |(file, _)| file);
        ConfigError::new(
            format!("{}: {}{key}", file.path.display(), self.name),
            problem,
        )
    }
}

/// A value and where it stands.
pub struct Value<'a> {
    /// The key, dotted.
    pub name: String,
    pub file: &'a File<'a>,
    offset: usize,
    pub value: &'a DeValue<'a>,
}

impl<'a> Value<'a> {
    /// The text, without white space around it.
    pub fn text(&self) -> Result<&'a str, ConfigError> {
        self.verbatim().map(str::trim)
    }

    pub fn verbatim(&self) -> Result<&'a str, ConfigError> {
        match self.value {
            DeValue::String(text) => Ok(text),
            _ => Err(self.error("must be a text; write it in quotes")),
        }
    }

    /// The values of an array; a text alone is an array of one.
    pub fn items(self) -> Result<Vec<Value<'a>>, ConfigError> {
        match self.value {
            DeValue::String(_) => Ok(vec![self]),
            DeValue::Array(values) => {
                let items = values.iter().map(|value| Value {
                    name: self.name.clone(),
                    file: self.file,
                    offset: value.span().start,
                    value: value.get_ref(),
                });
                Ok(items.collect())
            }
            _ => Err(self.error("must be a list of texts; write [\"one\", \"two\"]")),
        }
    }

    pub fn error(&self, problem: impl fmt::Display) -> ConfigError {
        ConfigError(self.line(problem))
    }

    pub fn line(&self, problem: impl fmt::Display) -> String {
        format!("{}: {}: {problem}", self.file.place(self.offset), self.name)
    }
}

/// The line, from 1, in which the byte at `offset` stands.
pub fn line_at(text: &[u8], offset: usize) -> usize {
    let before = &text[..offset.min(text.len())];
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}
