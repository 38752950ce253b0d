//! TOML files laid one over the other, read value by value: every value knows its file and its line.

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::error::at;
use super::table::{self, Kind, Setting};
use crate::text::Problem;

/// One parsed file.
pub(super) struct File<'a> {
    pub(super) path: &'a Path,
    text: &'a str,
    table: DeTable<'a>,
}

impl<'a> File<'a> {
    fn parse(path: &'a Path, text: &'a str) -> Result<File<'a>, ConfigError> {
        match DeTable::parse(text) {
            Ok(table) => Ok(File {
                path,
                text,
                table: table.into_inner(),
            }),
            Err(error) => {
                let offset = error.span().map_or(0, |span| span.start);
                // The message is made of fixed texts: it quotes nothing of the file.
                let what = format!("is not TOML: {}", error.message());
                let place = place(path, text.as_bytes(), offset);
                Err(ConfigError::new(place, Problem::new(what, "")))
            }
        }
    }

    pub(super) fn parse_all(texts: &[(PathBuf, String)]) -> Result<Vec<File<'_>>, ConfigError> {
        let files = texts.iter();
        files.map(|(path, text)| File::parse(path, text)).collect()
    }
}

/// A table as all the files together give it: what a later file says holds.
pub(super) struct Table<'a> {
    /// Dotted, with a dot at its end; empty for the top level.
    pub(super) name: String,
    /// The name of its section in the table of settings.
    header: String,
    /// The config file.
    main: &'a Path,
    /// The files that have the table, the last one first.
    pub(super) layers: Vec<(&'a File<'a>, &'a DeTable<'a>)>,
}

impl<'a> Table<'a> {
    /// The top of the config file at `main`, the first of `files`, with the others laid over it.
    pub(super) fn top(main: &'a Path, files: &'a [File<'a>]) -> Table<'a> {
        let layers = files.iter().rev().map(|file| (file, &file.table));
        Table {
            name: String::new(),
            header: String::new(),
            main,
            layers: layers.collect(),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<Value<'a>> {
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
    pub(super) fn table(&self, key: &str) -> Result<Table<'a>, ConfigError> {
        let layers = self.values(key).map(|value| match value.value {
            DeValue::Table(table) => Ok((value.file, table)),
            _ => Err(value.wrong("must be a table", format!("write [{}]", value.name))),
        });
        Ok(Table {
            name: format!("{}{}.", self.name, key.escape_debug()),
            header: table::below(&self.header, key),
            main: self.main,
            layers: layers.collect::<Result<_, _>>()?,
        })
    }

    /// The text at `key`, without white space around it; `None` also if that is empty.
    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, ConfigError> {
        let text = self.get(key).map(|value| value.text()).transpose()?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    /// The values of the list at `key`; none if there is no such key.
    pub(super) fn items(&self, key: &str) -> Result<Vec<Value<'a>>, ConfigError> {
        self.get(key).map_or(Ok(Vec::new()), Value::items)
    }

    /// The texts of the list at `key`, without blank ones.
    pub(super) fn texts(&self, key: &str) -> Result<Vec<String>, ConfigError> {
        let mut texts = self.get(key).map_or(Ok(Vec::new()), Value::texts)?;
        texts.retain(|text| !text.is_empty());
        Ok(texts)
    }

    /// The settings that the table can have.
    pub(super) fn settings(&self) -> &'static [Setting] {
        table::section(&self.header).map_or(&[], |section| section.settings)
    }

    /// The names of the tables that the table can have.
    pub(super) fn tables(&self) -> impl Iterator<Item = &'static str> {
        table::tables(&self.header)
    }

    /// The keys of all layers, each once.
    pub(super) fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = Vec::new();
        for (_, layer) in &self.layers {
            for key in layer.keys() {
                if !keys.iter().any(|known| known == key.get_ref().as_ref()) {
                    keys.push(key.get_ref().clone().into_owned());
                }
            }
        }
        keys
    }

    /// The keys of all layers with the values that hold.
    pub(super) fn entries(&self) -> impl Iterator<Item = (String, Value<'a>)> {
        let keys = self.keys().into_iter();
        keys.filter_map(|key| self.get(&key).map(|value| (key, value)))
    }

    fn kind(&self, key: &str) -> Option<&'static Kind> {
        let mut settings = self.settings().iter();
        Some(&settings.find(|setting| setting.name == key)?.kind)
    }

    /// `true` or `false` at `key`; else `instead`, or what the table of settings says.
    pub(super) fn flag(&self, key: &str, instead: Option<bool>) -> Result<bool, ConfigError> {
        let default = match (instead, self.kind(key)) {
            (Some(instead), _) => instead,
            (None, Some(Kind::Flag(default))) => *default,
            _ => return Err(self.unknown(key)),
        };
        match self.get(key) {
            None => Ok(default),
            Some(Value {
                value: DeValue::Boolean(flag),
                ..
            }) => Ok(*flag),
            Some(value) => Err(value.wrong("must be true or false, without quotes", "")),
        }
    }

    /// The whole number at `key`, within the range of the table of settings.
    pub(super) fn whole(&self, key: &str) -> Result<u64, ConfigError> {
        let Some(Kind::Whole(default, range)) = self.kind(key) else {
            return Err(self.unknown(key));
        };
        let Some(value) = self.get(key) else {
            return Ok(*default);
        };
        let number = match value.value {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        let (least, most) = (range.start(), range.end());
        let what = format!("must be a whole number from {least} to {most}, without quotes");
        let number = number.filter(|number| range.contains(number));
        number.ok_or_else(|| value.wrong(what, ""))
    }

    /// The number at `key`, with a fraction or not, within the range of the table of settings.
    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        let Some(Kind::Number(default, range)) = self.kind(key) else {
            return Err(self.unknown(key));
        };
        let Some(value) = self.get(key) else {
            return Ok(*default);
        };
        let number: Option<f64> = match value.value {
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => None,
        };
        let (least, most) = (range.start(), range.end());
        let what = format!("must be a number from {least} to {most}, without quotes");
        let number = number.filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| value.wrong(what, ""))
    }

    /// A setting that is read and is not in the table: a test that reads any config finds it.
    fn unknown(&self, key: &str) -> ConfigError {
        self.error(key, Problem::new("is not in the table of settings", ""))
    }

    /// A problem with the value at `key`, or with there being none.
    pub(super) fn error(&self, key: &str, problem: Problem) -> ConfigError {
        ConfigError::Wrong(self.at(key, problem))
    }

    /// The problem, with the place of the value at `key` in front, or of where that would be.
    pub(super) fn at(&self, key: &str, problem: Problem) -> Problem {
        if let Some(value) = self.get(key) {
            return value.at(problem);
        }
        let path = self.layers.first().map_or(self.main, |(file, _)| file.path);
        at(format!("{}: {}{key}", path.display(), self.name), problem)
    }
}

/// A value and where it stands.
pub(super) struct Value<'a> {
    /// The key, dotted.
    pub(super) name: String,
    pub(super) file: &'a File<'a>,
    offset: usize,
    pub(super) value: &'a DeValue<'a>,
}

impl<'a> Value<'a> {
    /// The text, without white space around it.
    pub(super) fn text(&self) -> Result<&'a str, ConfigError> {
        self.verbatim().map(str::trim)
    }

    pub(super) fn verbatim(&self) -> Result<&'a str, ConfigError> {
        match self.value {
            DeValue::String(text) => Ok(text),
            _ => Err(self.wrong("must be a text", "write it in quotes")),
        }
    }

    /// The values of an array; a text alone is an array of one.
    pub(super) fn items(self) -> Result<Vec<Value<'a>>, ConfigError> {
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
            _ => Err(self.wrong("must be a list of texts", "write [\"one\", \"two\"]")),
        }
    }

    /// The texts of a list.
    pub(super) fn texts(self) -> Result<Vec<String>, ConfigError> {
        let items = self.items()?.into_iter();
        items.map(|item| Ok(item.text()?.to_owned())).collect()
    }

    /// What is wrong with the value, and what to write instead.
    pub(super) fn wrong(&self, what: impl Into<String>, fix: impl Into<String>) -> ConfigError {
        self.error(Problem::new(what, fix))
    }

    /// The problem, with the value's place.
    pub(super) fn error(&self, problem: Problem) -> ConfigError {
        ConfigError::Wrong(self.at(problem))
    }

    /// The problem, with the value's place in front.
    pub(super) fn at(&self, problem: Problem) -> Problem {
        let place = place(self.file.path, self.file.text.as_bytes(), self.offset);
        at(format!("{place}: {}", self.name), problem)
    }
}

/// The file at `path` and the line in which the byte at `offset` of its text stands.
pub(super) fn place(path: &Path, text: &[u8], offset: usize) -> String {
    let before = &text[..offset.min(text.len())];
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    format!("{}:{line}", path.display())
}
